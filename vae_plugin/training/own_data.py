"""What is given from Python instead of being named by options: data sets and networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ..autoencoders import Adapter
from ..datasets.errors import DataError
from ..datasets.members import DataRecord
from ..datasets.own import OwnImages
from ..errors import UserError
from ..models.distributed import objects_over_processes
from ..options import given_in, judge, take_back
from .settings import DataSettings, FinetuneOptions
from .settings.data import FROM_PYTHON

# Network -> the options that would name another one.
INSTEAD = {
    "perceptual": ("perceptual_loss",),
    "discriminator": ("discriminator", "disc_channels", "disc_layers"),
}


@dataclass(frozen=True)
class Given:
    """What `train` was given beside its options.

    Attributes:
        dataset: of the images to train on, see `OwnImages`.
        validation_dataset: of those to measure on; by default some of `dataset` are held out.
        perceptual: a perceptual distance (x, y) -> (B,).
        discriminator: a network, images (B, C, H, W) -> logits.
    """

    dataset: Any = None
    validation_dataset: Any = None
    perceptual: nn.Module | None = None
    discriminator: nn.Module | None = None

    def check_losses(self, options: FinetuneOptions, adapter: Adapter) -> None:
        """Refuse networks that the run would not use.

        Raises:
            UserError: for the first of them.
        """
        for name in ("perceptual", "discriminator"):
            network = getattr(self, name)
            if network is None:
                continue
            if not isinstance(network, nn.Module):
                raise UserError(f"{name}= is a {type(network).__name__}: give a torch module.")
            if "elbo" in options.pixel_losses(adapter):
                raise UserError(
                    f"{name}= has no effect with --reconstruction_loss elbo: give l1 or l2, or leave it out."
                )
            for option in INSTEAD[name]:
                if option in given_in(options):
                    raise UserError(f"{name}= takes the place of what --{option} says: give one of them.")


NOTHING = Given()


@dataclass(frozen=True)
class OwnData:
    """The data sets of a run that were given from Python.

    Attributes:
        images: to train on, those to hold out included.
        validation: to measure on; None if some of the others are held out.
    """

    images: OwnImages
    validation: OwnImages | None

    @property
    def channels(self) -> int:
        """Of the images."""
        assert self.images.shape is not None
        return self.images.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        assert self.images.shape is not None
        return self.images.shape[1], self.images.shape[2]

    def check_model(self, adapter: Adapter) -> None:
        """Refuse images that the model does not take.

        Raises:
            UserError: if they have other channels, or such a size.
        """
        if adapter.in_channels != self.channels:
            raise UserError(
                f"the images of dataset have {self.channels} channel(s), and the model takes {adapter.in_channels}: "
                "give images with as many, or --in_channels."
            )
        ratio, (height, width) = adapter.spatial_compression_ratio, self.size
        if not adapter.pads_images and (height % ratio or width % ratio):
            raise UserError(
                f"the images of dataset are {height} x {width}, and this {adapter.class_name} takes multiples of "
                f"{ratio}: give images of such a size."
            )
        adapter.check_image_size(height, width, f"a dataset of {height} x {width}")


def open_own(given: Given, options: FinetuneOptions) -> OwnData | None:
    """The data sets that were given, if there are any; the resolution in the options becomes theirs.

    Raises:
        UserError: if they cannot be trained on, or options name other data.
    """
    options.data.give_from_python()
    if options.data.dataset_name == FROM_PYTHON:  # the options that an earlier run has written
        if given.dataset is None:
            raise UserError(
                "these are the options of a run on a data set that was given from Python: give one again by "
                "train(options, dataset=...), or other images by --train_data_dir or --dataset_name."
            )
        take_back(options, "dataset_name")
    if given.dataset is None:
        if given.validation_dataset is not None:
            raise UserError("validation_dataset is for the images of dataset: give both.")
        return None
    names = ("dataset", *(["validation_dataset"] if given.validation_dataset is not None else []))
    options.data.give_from_python(*names)
    judge(options)
    seed = options.optimization.seed
    images = OwnImages(given.dataset, "dataset", seed)
    validation = None
    if given.validation_dataset is not None:
        validation = OwnImages(given.validation_dataset, "validation_dataset", seed)
        if validation.shape != images.shape:
            raise DataError(
                f"the images of validation_dataset are {validation.shape}, and those of dataset {images.shape}: give "
                "images of one shape (C, H, W)."
            )
    own = OwnData(images, validation)
    side = min(own.size)
    if options.data.resolution not in (None, side):
        raise UserError(
            f"--resolution is {options.data.resolution}, and the images of dataset are {own.size[0]} x {own.size[1]}: "
            "leave it out, they are taken as they are."
        )
    options.data.resolution = side
    if len(set(objects_over_processes((images.digest, validation and validation.digest)))) > 1:
        raise UserError("dataset is another one on each process: give the same images in the same order on all.")
    return own


def split_own(own: OwnData, settings: DataSettings, record: DataRecord) -> tuple[OwnImages, OwnImages, DataRecord]:
    """The images to train on, those to measure on, and what the run remembers of them.

    Args:
        own: data of the run.
        settings: of the data.
        record: of the checkpoint that the run continues from.

    Raises:
        DataError: if they are not those of the checkpoint, or too few.
    """
    images, validation = own.images, own.validation
    digest = None if validation is None else validation.digest
    if not record.is_new:
        for name, then, now in (
            ("dataset", record.digest, images.digest),
            ("validation_dataset", record.validation, digest),
        ):
            if then != now:
                raise DataError(f"{name} is not that of the checkpoint: continue with the same one, or start anew.")
    if validation is None and len(images) < 2:
        raise DataError("dataset has 1 image: give at least two, of which one is held out, or a validation_dataset.")
    count = max(1, settings.num_validation_images)
    if validation is not None:
        train, measured = images, validation.drawn(count)
    else:
        held_out = record.held_out
        measured = images.drawn(min(count, max(1, len(images) // 10))) if held_out is None else images.named(held_out)
        train = images.without(measured)
    return train, measured, DataRecord(record.rules, images.digest, None, len(images), measured.names(), digest)
