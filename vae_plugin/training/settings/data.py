"""Which images a run sees."""

from __future__ import annotations

from dataclasses import dataclass

from ...datasets import Circles
from ...datasets.framing import CROPS, RESIZED
from ...errors import UserError
from ...options import GIVEN, option
from .opening import max_image_pixels, remote_images, value_range

CIRCLES = "circles"
FROM_PYTHON = "given from Python"  # stands for the data set in the options that such a run writes; no name on the Hub
FOLDER, SIMILAR = "folder", "similar"  # what is held out together
FILES = {"from_python": (False,)}
IMAGES = {"circles": (False,), **FILES}
ON_CIRCLES = {"circles": (True,)}


@dataclass
class DataSettings:
    """Settings of the data of a run."""

    dataset_name: str | None = option(
        None,
        "Data set to train on: 'circles', which are generated (the default without --train_data_dir), or one on the "
        "Hub.",
        path=True,
        common=True,
        when={"train_data_dir": (None,), **FILES},
        on_resume=True,  # where the same images may be found elsewhere: the checkpoint knows which they were
    )
    dataset_config_name: str | None = option(
        None, "Configuration of the data set on the Hub.", when={"dataset_name": GIVEN, **IMAGES}, since="0.2"
    )
    dataset_split: str = option("train", "Split of the data set to train on.", when=IMAGES, since="0.2")
    train_data_dir: tuple[str, ...] | None = option(
        None,
        "Folder of images or of shards (parquet, or WebDataset's tar files), or a single shard; or several of these.",
        path=True,
        alone=True,
        also=("data_dir",),
        common=True,
        when=FILES,
        on_resume=True,
    )
    allow_changed_data: bool = option(
        False,
        "Continue although images were added, removed or renamed since the checkpoint: what was held out stays held "
        "out, and what is new is only trained on.",
        when={**IMAGES, "resume_from_checkpoint": GIVEN},
        on_resume=True,
        since="0.2",
    )
    image_column: str | None = option(
        None, "Column of the images. By default the only one that holds images.", when=IMAGES
    )
    validation_data_dir: tuple[str, ...] | None = option(
        None,
        "Folder of images or of shards, or a single shard, to measure on: nothing is then held out of the training "
        "data, and what is there too, byte for byte, is not trained on.",
        path=True,
        alone=True,
        when=IMAGES,
        on_resume=True,  # the checkpoint knows which images they were
        since="0.2",
    )
    validation_split: str | None = option(
        None,
        "Split of the training data to measure on, as --validation_data_dir.",
        when={"validation_data_dir": (None,), **IMAGES},
        on_resume=True,
        since="0.2",
    )
    split_by: str = option(
        "image",
        "What is held out of the training data: single images; whole folders ('folder'), such as the frames of a "
        "video, drawn by the seed until there are --num_validation_images; or images with all their near-duplicates "
        "('similar': compressed anew, resized, a little lighter or darker), for which each image is read once before "
        "the run.",
        choices=("image", FOLDER, SIMILAR),
        when={"streaming": (False,), "validation_data_dir": (None,), "validation_split": (None,), **IMAGES},
        since="0.2",
    )
    streaming: bool = option(
        False, "Read shards in order and without a copy on disk, for large or remote data sets.", when=IMAGES
    )
    shuffle_buffer: int = option(
        4096, "Number of images that a stream shuffles together.", at_least=1, when={"streaming": GIVEN}
    )
    resolution: int | None = option(
        None,
        "Side of the square images in pixels; --crop says how they are cut. By default 64 for a new model, the "
        "sample_size of one of ours, and about 256 for others.",
        at_most=2**16,
        at_least=1,
        common=True,
    )
    crop: str = option(
        RESIZED,
        "How images are cut: 'resized', the shorter side becomes --resolution; 'native', windows of --resolution "
        "pixels that are not resized, which show the detail of large images; 'multiscale', a random scale between the "
        "two. With 'whole' images keep their aspect ratio, at about as many pixels, in batches of one size.",
        choices=CROPS,
        when=IMAGES,
        since="0.2",
    )
    center_crop: bool = option(False, "Crop the centre of each image rather than a random square.", when=IMAGES)
    random_flip: bool = option(False, "Mirror a random half of the images.", when=IMAGES)
    max_train_samples: int | None = option(
        None, "Largest number of images to train on, drawn by the seed.", at_least=1, when={"streaming": (False,)}
    )
    min_image_size: int | None = option(
        None,
        "Shorter side in pixels that an image has at least; smaller ones are left out. By default they are enlarged.",
        at_least=1,
        when=IMAGES,
        since="0.2",
    )
    max_unreadable: float = option(
        0.1,
        "Largest fraction of the images read so far that may be unreadable; above it the run stops with a checkpoint.",
        at_least=0,
        at_most=1,
        when=IMAGES,
        on_resume=True,
        since="0.2",
    )
    num_validation_images: int = option(
        256,
        "Number of images held out of training for metrics.json and the pictures: at least one, and at most a tenth "
        "of a data set. Of a validation set of its own, the number drawn by the seed; of a stream the first ones.",
        at_most=10**7,
        at_least=0,
    )
    circles_length: int = option(10_000, "Number of circles to train on.", at_most=10**8, at_least=1, when=ON_CIRCLES)
    value_range: tuple[float, ...] | None = value_range(when=IMAGES, since="0.2")
    max_image_pixels: int = max_image_pixels(when=IMAGES)
    remote_images: bool = remote_images(when=IMAGES, on_resume=True)
    circles_hue: bool = option(False, "Draw coloured circles (RGB) instead of gray ones.", when=ON_CIRCLES)
    dataloader_num_workers: int = option(
        0,
        "Number of processes (threads of a stream) that load images, for each training process.",
        at_most=256,
        at_least=0,
        on_resume=True,
    )
    image_cache_mib: int = option(
        512,
        "Memory in MiB of each training process for decoded images of 8 bits, the first that fit into it: they are "
        "decoded once rather than in every epoch. It changes no image, and 0 keeps none.",
        at_least=0,
        at_most=2**24,
        when={"streaming": (False,), **IMAGES},
        on_resume=True,
        since="0.2",
    )

    @property
    def has_validation_set(self) -> bool:
        """Whether the run is measured on a validation set of its own."""
        return self.validation_data_dir is not None or self.validation_split is not None

    @property
    def circles(self) -> bool:
        """Whether the images are generated circles, as they are by default."""
        return not self.from_python and self.train_data_dir is None and self.dataset_name in (None, CIRCLES)

    @property
    def from_python(self) -> tuple[str, ...]:
        """Names of the data sets that were given from Python, rather than named by options."""
        names: tuple[str, ...] = getattr(self, "_from_python", ())
        return names

    def give_from_python(self, *names: str) -> None:
        """Note which data sets were given from Python."""
        object.__setattr__(self, "_from_python", names)


def circles_for(channels: int, length: int, resolution: int, *, seed: int, hue: bool) -> Circles:
    """Generated circles for a model of so many image channels, in training and in the commands; see `Circles`.

    Raises:
        UserError: if there are none.
    """
    if hue and channels != 3:
        raise UserError(f"--circles_hue makes images of 3 channels, but the model takes {channels}: leave it out.")
    if channels not in (1, 3):
        raise UserError(f"circles have 1 or 3 channels, and the model takes {channels}: give other images.")
    try:
        return Circles(length, resolution, channels, seed=seed, hue=hue)
    except ValueError as error:
        raise UserError(str(error)) from error
