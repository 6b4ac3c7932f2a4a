"""Images that belong together because they lie in one folder."""

from __future__ import annotations

import numpy as np

from .errors import DataError
from .images import ImageDataset


def folders_of(images: ImageDataset) -> np.ndarray:
    """The folder of each image, within the data.

    Raises:
        DataError: if the images are not files.
    """
    names = images.origin.names
    if names is None or any("::" in name for name in names):
        raise DataError(
            f"the images in {images.origin.location} are those of shards, which have no folders: leave --split_by out, "
            "or give --validation_data_dir or --validation_split."
        )
    return np.array([names[row].rpartition("/")[0] for row in images.rows.tolist()], dtype=object)


def split_by_folder(images: ImageDataset, num_validation: int) -> tuple[ImageDataset, ImageDataset]:
    """Split into (training, validation) sets of whole folders, see `ImageDataset.split`.

    Args:
        images: to split.
        num_validation: images that are held out at least: folders are drawn by the seed until there are so many, or
            one folder is left to train on.

    Raises:
        DataError: if the images are not files, or lie in one folder.
    """
    folders = folders_of(images)
    order = np.random.default_rng(images.seed).permutation(np.unique(folders)).tolist()
    if len(order) < 2:
        raise DataError(
            f"all images in {images.origin.location} lie in one folder, and --split_by folder holds out whole ones: "
            "leave it out, or give at least two folders."
        )
    held_out: set[str] = set()
    for folder in order[:-1]:
        held_out.add(folder)
        if (chosen := _within(folders, held_out)).sum() >= num_validation:
            break
    rows = images.rows[chosen]
    return images.without(rows), images.measured(rows)


def without_folders_of(images: ImageDataset, others: ImageDataset) -> ImageDataset:
    """The images that lie in no folder of the others, which are of the same data.

    Raises:
        DataError: if none is left.
    """
    shared = _within(folders_of(images), set(folders_of(others)))
    if shared.all():
        raise DataError(
            f"all folders in {images.origin.location} have images that were held out of training: give others too."
        )
    return images.without(images.rows[shared])


def _within(folders: np.ndarray, chosen: set[str]) -> np.ndarray:
    return np.array([folder in chosen for folder in folders], dtype=bool)
