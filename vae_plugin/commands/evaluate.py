"""Measure a model on images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import Dataset

from .. import metrics
from ..autoencoders import Adapter
from ..datasets import LATEST, DataRules, ImageDataset, draw, image_batches, load_images
from ..datasets.framing import CROPS, RESIZED, WHOLE, aspect_buckets
from ..datasets.trained_on import find_record, held_out_of
from ..errors import UserError
from ..files import json_text, write_json
from ..notices import say, some
from ..options import GIVEN, LARGEST_SEED, option, parse
from ..training.buckets import smallest_side
from ..training.settings.data import circles_for
from ..training.settings.opening import checked_range, max_image_pixels, remote_images, value_range
from .source import ModelSource

IMAGES = {"circles": (False,)}


@dataclass
class EvaluateOptions(ModelSource):
    """Options of `vae-plugin evaluate`."""

    dataset_name: str | None = option(
        None,
        "'circles' (generated, the default) or a data set on the Hub.",
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
    circles_hue: bool = option(False, "Use coloured circles (RGB) instead of gray ones.", when={"circles": (True,)})
    max_images: int = option(
        1000, "Largest number of images to measure on, drawn by the seed.", at_most=10**8, at_least=1
    )
    num_importance_samples: int = option(0, "Importance samples for the bound on log p(x); 0 skips it.", at_least=0)
    seed: int = option(
        1,
        "Seed of the posterior samples, the circles and what is drawn by --max_images.",
        at_most=LARGEST_SEED,
        at_least=0,
    )
    output_file: str | None = option(None, "Also write the metrics to this JSON file.", path=True)

    def facts(self) -> dict[str, bool]:
        """Facts that decide which options apply: whether the images are generated circles (the default)."""
        return {"circles": self.train_data_dir is None and self.dataset_name in (None, "circles")}

    @property
    def phrases(self) -> dict[tuple[str, bool], str]:
        """How an error states these facts."""
        return {("circles", False): "has no effect on generated circles", ("circles", True): "needs generated circles"}


def run(argv: Sequence[str] | None, prog: str) -> metrics.Evaluation:
    """Parse the options, measure and print."""
    options = parse(EvaluateOptions, argv, prog=prog, description=__doc__)
    adapter = options.open()
    channels, size = adapter.in_channels, options.resolution or adapter.natural_resolution
    adapter.check_image_size(size, size, f"--resolution {size}")
    reason = metrics.no_importance_weighted_bound(adapter)
    if options.num_importance_samples and reason is not None:
        raise UserError(f"{reason}: leave --num_importance_samples out.")
    images: Dataset
    if options.facts()["circles"]:
        images = circles_for(channels, options.max_images, size, seed=options.seed, hue=options.circles_hue)
    else:
        images = draw(_images(options, adapter, size), options.max_images, options.seed)
    unreadable: set[str] = set()
    result = metrics.evaluate(
        adapter,
        image_batches(images, unreadable=unreadable),
        num_importance_samples=options.num_importance_samples,
        seed=options.seed,
    )
    print(json_text(result, "the metrics", indent=2))
    if unreadable:
        say(f"{len(unreadable)} file(s) could not be read as images and were left out: {some(unreadable)}")
    if options.output_file:
        write_json(Path(options.output_file), result)
        say(f"written to {options.output_file}.")
    return result


def _images(options: EvaluateOptions, adapter: Adapter, size: int) -> ImageDataset:
    """The images to measure on: where the model was trained on them, those that its run held out."""
    record = find_record(options.pretrained_model_name_or_path)
    crop = options.crop or _crop_of_training(options)
    smallest_side(adapter, crop, size)
    buckets = aspect_buckets(size, adapter.spatial_compression_ratio) if crop == WHOLE else ()

    def load(rules: DataRules) -> ImageDataset:
        return load_images(
            dataset_name=options.dataset_name,
            config_name=options.dataset_config_name,
            train_data_dir=options.train_data_dir,
            image_column=options.image_column,
            split=options.split,
            resolution=size,
            crop=crop,
            buckets=buckets,
            channels=adapter.in_channels,
            center_crop=True,
            value_range=checked_range(options.value_range) or adapter.value_range,
            max_image_pixels=options.max_image_pixels,
            remote_images=options.remote_images,
            rules=rules,
        )

    if record is not None:
        found = held_out_of(load(record.rules), record)
        if found is not None:
            images, sentence = found
            say(sentence)
            return images
    return load(LATEST)


def _crop_of_training(options: EvaluateOptions) -> str:
    """How the images were cropped that a model was trained on, as its run.json tells."""
    crop = options.record().crop
    if crop not in CROPS or crop == RESIZED:
        return RESIZED
    say(f"images are cropped as in training, which run.json tells: --crop {crop}.")
    return crop
