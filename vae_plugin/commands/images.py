"""A model and the images that a command works on: options declared once for all commands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..datasets import LATEST, DataRules, ImageDataset, load_images
from ..datasets.framing import CROPS, RESIZED, WHOLE, aspect_buckets
from ..hub.record import RunRecord
from ..notices import say
from ..options import GIVEN, option
from ..training.buckets import ImageTaker, image_sizes
from ..training.settings.opening import checked_range, max_image_pixels, remote_images, value_range
from .source import ModelSource

IMAGES = {"circles": (False,)}


@dataclass
class Images:
    """Options that say which images are worked on, and which part of them is taken."""

    dataset_name: str | None = option(
        None,
        "'circles' (generated, where a command takes them) or a data set on the Hub.",
        path=True,
        when={"train_data_dir": (None,)},
    )
    dataset_config_name: str | None = option(
        None, "Configuration of the data set on the Hub.", when={"dataset_name": GIVEN, **IMAGES}
    )
    train_data_dir: tuple[str, ...] | None = option(
        None,
        "Folder of images or of shards (parquet, or WebDataset's tar files), or a single shard; repeat it for several.",
        path=True,
        alone=True,
        also=("data_dir",),
    )
    split: str = option("train", "Split of the data set.", also=("dataset_split",), when=IMAGES)
    image_column: str | None = option(
        None, "Column of the images. By default the only one that holds images.", when=IMAGES
    )
    resolution: int | None = option(
        None,
        "Side of the centre crop in pixels. By default the sample_size of our own models, and about 256 for others.",
        at_most=2**16,
        at_least=8,
    )
    crop: str | None = option(
        None,
        "How the centre is cropped, see finetune. By default as in the training of the model, or 'resized'.",
        choices=CROPS,
        when=IMAGES,
    )
    value_range: tuple[float, ...] | None = value_range(when=IMAGES)
    max_image_pixels: int = max_image_pixels(when=IMAGES)
    remote_images: bool = remote_images(when=IMAGES)

    def facts(self) -> dict[str, bool]:
        """Facts that decide which options apply: whether the images are generated circles."""
        return {"circles": self.dataset_name == "circles"}

    @property
    def circles_by_default(self) -> bool:
        """Whether the images are generated circles, of a command that takes them where no data are named."""
        return self.train_data_dir is None and self.dataset_name in (None, "circles")

    @property
    def phrases(self) -> dict[tuple[str, bool], str]:
        """How an error states these facts."""
        return {("circles", False): "has no effect on generated circles", ("circles", True): "needs generated circles"}

    def crop_or_that_of_training(self, records: Iterable[RunRecord]) -> str:
        """How images are cropped: as was asked for, or as those were that the model was trained on (its run.json).

        Args:
            records: of the models; where they differ, images are resized.
        """
        if self.crop is not None:
            return self.crop
        crops = {record.crop if record.crop in CROPS else RESIZED for record in records}
        if len(crops) != 1:
            if crops - {RESIZED}:
                say(f"the models were trained on images that were cropped differently: here --crop {RESIZED}.")
            return RESIZED
        (crop,) = crops
        if crop != RESIZED:
            say(f"images are cropped as in training, which run.json tells: --crop {crop}.")
        return crop

    def range_of(self, adapter: ImageTaker) -> tuple[float, float] | None:
        """The values that become -1 and 1: those that were given, or those that the model records."""
        return checked_range(self.value_range) or adapter.value_range

    def load(self, taker: ImageTaker, size: int, crop: str, rules: DataRules = LATEST) -> ImageDataset:
        """The images, in the order of the data set.

        Args:
            taker: what takes them: the adapter of a model, or what several models have in common.
            size: side of the centre crop in pixels.
            crop: how the centre is cropped.
            rules: by which files become images.
        """
        image_sizes(taker, crop, size)
        return load_images(
            dataset_name=self.dataset_name,
            config_name=self.dataset_config_name,
            train_data_dir=self.train_data_dir,
            image_column=self.image_column,
            split=self.split,
            resolution=size,
            crop=crop,
            buckets=aspect_buckets(size, taker.spatial_compression_ratio) if crop == WHOLE else (),
            center_crop=True,
            channels=taker.in_channels,
            value_range=self.range_of(taker),
            max_image_pixels=self.max_image_pixels,
            remote_images=self.remote_images,
            rules=rules,
        )


@dataclass
class ImageSource(Images, ModelSource):
    """Options that say which images a model works on."""
