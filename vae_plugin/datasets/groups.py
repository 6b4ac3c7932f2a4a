"""Images that belong together: the split keeps each group of them on one side."""

from __future__ import annotations

import numpy as np

from .errors import DataError
from .images import ImageDataset


def folders_of(images: ImageDataset) -> np.ndarray:
    """The folder of each image, by its number among those within the data.

    Raises:
        DataError: if the images are not files.
    """
    names = images.origin.names
    if names is None or any("::" in name for name in names):
        raise DataError(
            f"the images in {images.origin.location} are those of shards, which have no folders: leave --split_by out, "
            "or give --validation_data_dir or --validation_split."
        )
    return np.unique([names[row].rpartition("/")[0] for row in images.rows.tolist()], return_inverse=True)[1]


def split_by_folder(
    images: ImageDataset, folders: np.ndarray, num_validation: int
) -> tuple[ImageDataset, ImageDataset]:
    """Split into (training, validation) sets of whole folders, see `ImageDataset.split`.

    Args:
        images: to split.
        folders: of the images.
        num_validation: images that are held out at least: folders are drawn by the seed until there are so many, or
            one folder is left to train on.

    Raises:
        DataError: if all lie in one folder.
    """
    order = _drawn(images, folders)
    if len(order) < 2:
        raise DataError(
            f"all images in {images.origin.location} lie in one folder, and --split_by folder holds out whole ones: "
            "leave it out, or give at least two folders."
        )
    sizes = _sizes(folders, order)
    count = int(np.searchsorted(np.cumsum(sizes[:-1]), num_validation)) + 1
    return _hold_out(images, np.isin(folders, order[: min(count, len(order) - 1)]))


def split_by_group(images: ImageDataset, groups: np.ndarray, num_validation: int) -> tuple[ImageDataset, ImageDataset]:
    """Split into (training, validation) sets of whole groups, see `ImageDataset.split`.

    Args:
        images: to split.
        groups: number of the group of each image; most are of one image.
        num_validation: images that are held out at most: groups are drawn by the seed, and those that are too large for
            what is left of it are trained on. If all are too large, the smallest is held out.

    Raises:
        DataError: if all images are of one group.
    """
    order = _drawn(images, groups)
    if len(order) < 2:
        raise DataError(
            f"all {len(images):,} images in {images.origin.location} are similar to one another, and --split_by "
            "similar keeps similar images together: leave it out."
        )
    chosen: list[int] = []
    sizes, left = _sizes(groups, order), num_validation
    for group, size in zip(order.tolist(), sizes.tolist(), strict=True):
        if size <= left:
            chosen.append(group)
            left -= size
    return _hold_out(images, np.isin(groups, chosen or order[sizes.argmin()]))


def without_groups_of(images: ImageDataset, groups: np.ndarray, held_out: ImageDataset) -> ImageDataset:
    """The images that are in no group of those held out.

    Args:
        images: those held out included.
        groups: of each image.
        held_out: some of them.

    Raises:
        DataError: if none is left.
    """
    shared = np.isin(groups, groups[np.isin(images.rows, held_out.rows)])
    if shared.all():
        raise DataError(
            f"every image in {images.origin.location} is of a folder or group that was held out of training: give "
            "others too."
        )
    return images.without(images.rows[shared])


def _drawn(images: ImageDataset, groups: np.ndarray) -> np.ndarray:
    return np.random.default_rng(images.seed).permutation(np.unique(groups))


def _sizes(groups: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Number of images of each group, in an order."""
    names, counts = np.unique(groups, return_counts=True)
    return counts[np.searchsorted(names, order)]


def _hold_out(images: ImageDataset, chosen: np.ndarray) -> tuple[ImageDataset, ImageDataset]:
    rows = images.rows[chosen]
    return images.without(rows), images.measured(rows)
