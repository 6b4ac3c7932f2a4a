"""Iteration over a data set in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Subset

from .images import ImageDataset
from .streaming import ImageStream


def image_batches(
    dataset: Dataset | ImageStream, batch_size: int = 32, unreadable: set[str] | None = None, limit: int | None = None
) -> Iterator[torch.Tensor]:
    """Yield batches (B, C, H, W) in order, each image once and without substitutes for unreadable images.

    Where images have several sizes, they come size by size.

    Args:
        dataset: data set whose items have "pixel_values" and possibly "unreadable".
        batch_size: size of every batch except the last, which can be smaller.
        unreadable: set to which the names of unreadable images are added.
        limit: maximum number of images, spread evenly over the data set, or over the lanes of a stream. Required for a
            stream.

    Raises:
        ValueError: for a stream without a limit.
    """
    dataset = evenly(dataset, limit)
    for indices in by_size(dataset):
        batch: list[torch.Tensor] = []
        for start in range(0, len(indices), batch_size):
            for item in items_of(dataset, indices[start : start + batch_size]):
                if item.get("unreadable"):
                    if unreadable is not None:
                        unreadable.update(item["unreadable"])
                    continue
                batch.append(item["pixel_values"])
                if len(batch) == batch_size:
                    yield torch.stack(batch)
                    batch = []
        if batch:
            yield torch.stack(batch)


def by_size(dataset: Dataset) -> list[Sequence[int]]:
    """The indices of a data set in groups of images of one size, each in order."""
    numbers = bucket_numbers(dataset)
    if numbers is None:
        return [range(len(dataset))]  # type: ignore[arg-type]  # torch's declares no length, but all of ours have one
    return [np.flatnonzero(numbers == number).tolist() for number in np.unique(numbers)]


def bucket_numbers(dataset: Dataset) -> np.ndarray | None:
    """The bucket of each image by its number; None where all have one size."""
    if isinstance(dataset, Subset):
        numbers = bucket_numbers(dataset.dataset)
        return None if numbers is None else numbers[list(dataset.indices)]
    return dataset.bucket_numbers() if isinstance(dataset, ImageDataset) else None


def items_of(dataset: Dataset, indices: Sequence[int]) -> list[dict[str, Any]]:
    """The items of these indices, read together where the data set can."""
    together = getattr(dataset, "__getitems__", None)
    return [dataset[index] for index in indices] if together is None else together(list(indices))


def name_of_item(dataset: Dataset, index: int) -> str:
    """What the image of an index is called: by its file or row, or by its number where it has neither."""
    if isinstance(dataset, Subset):
        return name_of_item(dataset.dataset, dataset.indices[index])
    if isinstance(dataset, ImageDataset):
        return dataset.origin.name_of(int(dataset.rows[index]))
    return f"image {index}"


def draw(dataset: Dataset, count: int | None, seed: int) -> Dataset:
    """At most `count` items of a data set, drawn by the seed and in their order; all of them for None."""
    length = len(dataset)  # type: ignore[arg-type]
    if count is None or count >= length:
        return dataset
    chosen = np.random.default_rng((seed, 4)).choice(length, count, replace=False)
    return Subset(dataset, sorted(chosen.tolist()))


def evenly(dataset: Dataset | ImageStream, limit: int | None) -> Dataset:
    """The data set itself, or `limit` images spread evenly over it; of a stream its first ones.

    Raises:
        ValueError: for a stream without a limit.
    """
    if isinstance(dataset, ImageStream):
        if limit is None:
            raise ValueError("got a stream without a limit: a stream is endless, so give the number of images to take.")
        dataset = dataset.first(limit)
    length = len(dataset)  # type: ignore[arg-type]
    if limit is None or limit >= length:
        return dataset
    return Subset(dataset, [i * length // limit for i in range(limit)])
