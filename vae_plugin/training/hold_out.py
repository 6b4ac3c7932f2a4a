"""Images that are held out of the training data, and whether copies of them are left there."""

from __future__ import annotations

from torch.utils.data import Dataset, Subset

from ..datasets import ImageDataset
from ..datasets.duplicates import shared_rows
from ..datasets.groups import folders_of, split_by_folder, without_folders_of
from ..datasets.members import DataRecord
from .settings import DataSettings
from .settings.data import FOLDER

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
    by_folder = settings.split_by == FOLDER
    if record.held_out is not None:
        train, validation = images.split_by_names(record.held_out, same_files)
        train = without_folders_of(train, validation) if by_folder else train
    else:
        count = max(1, min(settings.num_validation_images, len(images) // 10))
        train, validation = split_by_folder(images, count) if by_folder else images.split(count)
    if not by_folder:
        return train, validation, []
    held_out, every = (len(set(folders_of(some))) for some in (validation, images))
    return train, validation, [f"{held_out:,} of {every:,} folders are held out, with {len(validation):,} images."]


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
        "data too, byte for byte, so that what is measured is better than on new images: give --validation_data_dir, "
        "whose images are not trained on, or --split_by folder if copies lie in one folder."
    ]
