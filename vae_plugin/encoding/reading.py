"""The images to encode, batch by batch, each under its own number or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..datasets import DataError, ImageDataset
from ..datasets.labels import Label, Labels
from ..datasets.rows import value_of
from ..signals import leave_signals_to_the_parent


@dataclass
class Found:
    """An image of the data set.

    Attributes:
        number: of the image.
        name: of the image.
        label: of the image.
        pixels: (C, H, W) in [-1, 1]; None if it cannot be read.
        reason: why not.
        failure: what is wrong with its label, which ends the work.
        image_size: width and height of its file, where they are asked for.
        clipped: whether values lay beyond the range that was given.
    """

    number: int
    name: str
    label: Label = None
    pixels: torch.Tensor | None = None
    reason: str = ""
    failure: str = ""
    image_size: tuple[int, int] | None = None
    clipped: bool = False


class NumberedImages(Dataset):
    """The images of a data set by number, without a substitute for one that cannot be read.

    Args:
        images: the data set.
        labels: of its rows.
        sizes: whether the sizes of the files are asked for.
    """

    def __init__(self, images: ImageDataset, labels: Labels, sizes: bool) -> None:
        self._images, self._labels, self._sizes = images, labels, sizes

    def __len__(self) -> int:
        return len(self._images)

    def __getitems__(self, numbers: Sequence[int]) -> list[Found]:
        """What is found of a batch, read and converted together."""
        rows = self._images.rows[list(numbers)].tolist()
        items = self._images.without_substitutes(numbers)
        return [self._found(*each) for each in zip(numbers, rows, items, strict=True)]

    def _found(self, number: int, row: int, item: dict[str, Any] | DataError) -> Found:
        found = Found(number, self._images.origin.name_of(row))
        try:
            if isinstance(item, DataError):
                raise item
            if self._sizes:
                value = value_of(self._images.table[row][self._images.image_column])
                found.image_size = self._images.reader.size(value)
            found.pixels, found.clipped = item["pixel_values"], bool(item.get("clipped"))
        except DataError as error:
            found.reason = error.reason or str(error)
        else:
            try:
                found.label = self._labels.of(row)
            except DataError as error:  # raised here, it would come from another process with a traceback
                found.failure = str(error)
        return found


class Batches:
    """The numbers of the images of some shards, a batch at a time, none of which crosses into another shard.

    Args:
        shards: ranges of numbers.
        batch_size: most images of a batch.
        buckets: of every image of the data set, where they have several sizes: a batch is then of one of them.
    """

    def __init__(self, shards: Sequence[range], batch_size: int, buckets: np.ndarray | None = None) -> None:
        self._shards, self._size, self._buckets = shards, batch_size, buckets

    def __iter__(self) -> Iterator[list[int]]:
        for shard in self._shards:
            yield from self.of(shard)

    def of(self, shard: range) -> list[list[int]]:
        """The batches of a shard, in order or bucket by bucket."""
        numbers = np.arange(shard.start, shard.stop)
        groups = [numbers]
        if self._buckets is not None:
            buckets = self._buckets[numbers]
            groups = [numbers[buckets == bucket] for bucket in np.unique(buckets)]
        return [group[at : at + self._size].tolist() for group in groups for at in range(0, len(group), self._size)]


def read_batches(images: NumberedImages, batches: Batches, num_workers: int) -> Iterator[list[Found]]:
    """What is found of each batch, in order.

    Args:
        images: to read.
        batches: of their numbers.
        num_workers: processes that read; 0 reads in this one.
    """
    loader: DataLoader = DataLoader(
        images,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=list,
        worker_init_fn=leave_signals_to_the_parent,
    )
    yield from loader
