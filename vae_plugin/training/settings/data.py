"""Which images a run sees."""

from __future__ import annotations

from dataclasses import dataclass

from ...options import GIVEN, option

CIRCLES = "circles"
IMAGES = {"circles": (False,)}


@dataclass
class DataSettings:
    """Settings of the data of a run."""

    dataset_name: str | None = option(
        None,
        "'circles' (generated; the default without --train_data_dir), or a data set on the Hub.",
        common=True,
        when={"train_data_dir": (None,)},
    )
    train_data_dir: str | None = option(
        None,
        "Folder of images or of shards (parquet, or the tar files of WebDataset), or one shard.",
        also=("data_dir",),
        common=True,
    )
    image_column: str | None = option(
        None, "Column of the images. By default the only one that holds images.", when=IMAGES
    )
    streaming: bool = option(
        False, "Read shards in order and without a copy on the disk, for large or remote data sets.", when=IMAGES
    )
    shuffle_buffer: int = option(
        4096, "Images that are shuffled with each other when streaming.", at_least=1, when={"streaming": GIVEN}
    )
    resolution: int | None = option(
        None,
        "Shorter side after resizing, and side of the square crop, in pixels. By default 64 for a new model, the "
        "sample_size of one of ours, about 256 for another.",
        at_least=1,
        common=True,
    )
    center_crop: bool = option(False, "Crop the centre rather than a random square.", when=IMAGES)
    random_flip: bool = option(False, "Mirror half of the images.", when=IMAGES)
    max_train_samples: int | None = option(
        None, "Train on no more images than these.", at_least=1, when={"streaming": (False,)}
    )
    num_validation_images: int = option(
        256,
        "Images held out of training for metrics.json and the pictures; at most a tenth of all images.",
        at_least=0,
    )
    circles_length: int = option(10_000, "Number of circles to train on.", at_least=1, when={"circles": (True,)})
    circles_hue: bool = option(False, "Coloured circles (RGB) instead of gray ones.", when={"circles": (True,)})
    dataloader_num_workers: int = option(
        0,
        "Processes (threads of a stream) that load images, for each training process.",
        at_least=0,
        on_resume=True,
    )

    @property
    def circles(self) -> bool:
        """Whether the images are generated circles, as they are by default."""
        return self.train_data_dir is None and self.dataset_name in (None, CIRCLES)
