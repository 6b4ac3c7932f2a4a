"""Images that are held out of the training data, and whether copies of them are left there."""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset, Subset

from ..datasets import ImageDataset
from ..datasets.duplicates import shared_rows
from ..datasets.groups import folders_of, split_by_folder, split_by_group, without_groups_of
from ..datasets.members import DataRecord
from ..datasets.similar import groups_by_hash, hashes
from ..models.distributed import objects_over_processes, rank, world_size
from .progress import Progress
from .settings import DataSettings
from .settings.data import FOLDER, SIMILAR

MOST_COMPARED = 10_000  # images of each of the two sets
MOST_BYTES = 1 << 27  # of them


def hold_out(
    images: ImageDataset, settings: DataSettings, record: DataRecord, same_files: bool
) -> tuple[ImageDataset, ImageDataset, list[str]]:
    """The images to train on, those held out of them, and what is to be told.

    Args:
        images: of the run.
        settings: of the data.
        record: of the checkpoint that the run continues from: what it held out stays held out.
        same_files: whether they are those of the checkpoint.

    Raises:
        DataError: if they cannot be split so.
    """
    by, then = settings.split_by, record.held_out
    # What was held out are whole groups, so that only new images may belong to them too.
    grouped = by == FOLDER or (by == SIMILAR and not (then is not None and same_files))
    groups = None if not grouped else folders_of(images) if by == FOLDER else similar_to_each_other(images, settings)
    if then is not None:
        train, validation = images.split_by_names(then, same_files)
        train = train if groups is None else without_groups_of(images, groups, validation)
    else:
        count = max(1, min(settings.num_validation_images, len(images) // 10))
        if groups is None:
            train, validation = images.split(count)
        else:
            train, validation = (split_by_folder if by == FOLDER else split_by_group)(images, groups, count)
    if groups is None:
        return train, validation, []
    count, held_out = len(validation), len(np.unique(groups[np.isin(images.rows, validation.rows)]))
    of_folders = f"{held_out:,} of {len(np.unique(groups)):,} folders are held out, with {count:,} images."
    return train, validation, [of_folders if by == FOLDER else _near_duplicates(groups, count, held_out)]


def similar_to_each_other(images: ImageDataset, settings: DataSettings) -> np.ndarray:
    """The group of near-duplicates that each image is of; each process looks at its part of them."""
    parts = np.array_split(np.arange(len(images)), world_size())
    progress = Progress(len(images), visible=rank() == 0, unit="image")
    threads = max(1, settings.dataloader_num_workers)

    def advanced(count: int) -> None:
        progress.step({"looking for": "near-duplicates"}, min(count * world_size(), progress.total - progress.done))

    try:
        found = hashes(images, parts[rank()].tolist(), threads, advanced)
    finally:
        progress.close()
    return groups_by_hash(np.concatenate(objects_over_processes(found)))


def _near_duplicates(groups: np.ndarray, num_validation: int, held_out: int) -> str:
    """What is to be told of groups of near-duplicates."""
    sizes = np.bincount(groups)
    several = sizes[sizes > 1]
    found = (
        f"{several.sum():,} of {len(groups):,} images have near-duplicates, in {len(several):,} groups of at most "
        f"{several.max():,}"
        if len(several)
        else f"none of {len(groups):,} images has near-duplicates"
    )
    return f"{found}; {num_validation:,} images in {held_out:,} groups are held out."


def copies_left(train: Dataset, validation: ImageDataset) -> list[str]:
    """What is to be told of held-out images that are in the training data too, byte for byte.

    Args:
        train: an `ImageDataset`, or a subset of one.
        validation: images that were held out of it.
    """
    if isinstance(train, Subset):
        train, kept = train.dataset, train.dataset.rows[list(train.indices)]  # type: ignore[attr-defined]
        assert isinstance(train, ImageDataset)
        train = train.measured(kept)
    assert isinstance(train, ImageDataset)
    found, whole = shared_rows(validation, train, MOST_COMPARED, MOST_BYTES)
    if not len(found):
        return []
    return [
        f"{'' if whole else 'at least '}{len(found):,} of the {len(validation):,} images held out are in the training "
        "data too, byte for byte, so that what is measured is better than on new images: give --split_by similar, "
        "which holds out images with their near-duplicates, or --validation_data_dir, whose images are not trained on."
    ]
