"""A validation set of a run's own: what is measured of it, and that nothing of it is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..datasets import ImageDataset, ImageStream, load_images, stream_images
from ..datasets.duplicates import shared_rows
from ..datasets.errors import DataError
from ..datasets.members import DataRecord, find_held_out
from .settings import DataSettings

MEASURED_STAYS = "what was measured is measured again, as far as it is still there"


@dataclass(frozen=True)
class ValidationSet:
    """A validation set of a run's own.

    Attributes:
        measured: the images that the run is measured on.
        contents: name -> SHA-256 of the encoded image, of these.
        location: of the set, in words.
        digest: of the whole set.
        changed: whether it is not that of the checkpoint that the run continues from.
        every: the whole set; None of a stream.
    """

    measured: ImageDataset
    contents: dict[str, str]
    location: str
    digest: str | None
    changed: bool
    every: ImageDataset | None = None

    def leave_out(self, images: ImageDataset | ImageStream) -> tuple[ImageDataset | ImageStream, list[str]]:
        """The images to train on without those that are in this set too, byte for byte, and what is to be told.

        Raises:
            DataError: if none is left.
        """
        if isinstance(images, ImageStream):
            contents = self.contents if self.every is None else self.every.named_contents()
            images.left_out = frozenset(contents.values()) - {""}
            return images, []
        assert self.every is not None  # only beside a stream it is one too
        rows, _ = shared_rows(images, self.every)
        if not len(rows):
            return images, []
        if len(rows) == len(images):
            raise DataError(
                f"all {len(images)} images in {images.origin.location} are in the validation set {self.location} too: "
                "give other images to train on, or another validation set."
            )
        sentence = (
            f"{len(rows):,} of the {len(images):,} images in {images.origin.location} are in the validation set "
            f"{self.location} too, and are not trained on."
        )
        return images.without(rows), [sentence]


def check_kept(record: DataRecord, settings: DataSettings) -> None:
    """Refuse to continue with a validation set of its own where there was none, or the reverse.

    Raises:
        DataError: for such a continuation.
    """
    if record.is_new or (record.validation is not None) == settings.has_validation_set:
        return
    if settings.has_validation_set:
        name = "validation_split" if settings.validation_data_dir is None else "validation_data_dir"
        raise DataError(
            "the checkpoint held images out of the training data, and a resumed run must keep these: leave "
            f"--{name} out."
        )
    raise DataError(
        "the checkpoint was measured on a validation set of its own: give it again by --validation_data_dir or "
        "--validation_split."
    )


def open_validation_set(
    settings: DataSettings, source: Mapping[str, Any], seed: int, record: DataRecord
) -> ValidationSet:
    """The validation set that the settings name.

    Args:
        settings: of the data; at most `num_validation_images` are measured, drawn by the seed, of a stream the first.
        source: arguments of `load_images` for the training data.
        seed: of the run.
        record: of the checkpoint that the run continues from: what was measured is measured again.

    Raises:
        DataError: if there is no such set, or it changed.
    """
    source = {**source, "split": settings.validation_split, "center_crop": True, "random_flip": False}
    if settings.validation_data_dir is not None:
        folder = {"dataset_name": None, "config_name": None, "revision": None}
        source |= {**folder, "train_data_dir": settings.validation_data_dir}
    count, then = max(1, settings.num_validation_images), record.held_out

    def where(images: ImageDataset | ImageStream) -> str:
        of_split = "" if settings.validation_split is None else f" ({settings.validation_split})"
        return f"{images.origin.location}{of_split}"

    def has_changed(images: ImageDataset | ImageStream, size: int | None) -> bool:
        same = images.origin.digest == record.validation and images.contents(then or {}) == then
        return record.check(same, where(images), size, settings.allow_changed_data, MEASURED_STAYS)

    if settings.streaming and settings.validation_data_dir is None:
        stream = stream_images(**source, num_validation=count, min_image_size=settings.min_image_size or 1)
        changed = has_changed(stream, None)
        measured = stream.validation() if then is None else stream.split_by_names(then, same_files=not changed)[1]
        return ValidationSet(measured, stream.held_out_contents(), where(stream), stream.origin.digest, changed)
    every = load_images(**source)
    every = every if settings.min_image_size is None else every.at_least(settings.min_image_size)
    changed = has_changed(every, len(every))
    if then is None:
        rows = np.random.default_rng(seed).permutation(every.rows)[:count]
    else:
        rows = np.array(find_held_out(every.origin.sample_names(), every.content, then, same_files=not changed))
    if not len(rows):
        raise DataError(f"none of the images that were measured before is in {where(every)}: give them again.")
    measured = every.measured(rows)
    return ValidationSet(measured, measured.named_contents(), where(every), every.origin.digest, changed, every)
