"""Batches of a data set in order."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Dataset, Subset

from .streaming import ImageStream


def image_batches(
    dataset: Dataset | ImageStream, batch_size: int = 32, unreadable: set[str] | None = None, limit: int | None = None
) -> Iterator[torch.Tensor]:
    """Batches (B, C, H, W) in order, each image once; what stands in for an unreadable image is left out.

    Args:
        dataset: of items with "pixel_values" and perhaps "unreadable".
        batch_size: of all batches but the last.
        unreadable: gets the names of the images that cannot be read.
        limit: take so many images, spread evenly over the set; of a stream, which needs it, over its lanes.
    """
    if isinstance(dataset, ImageStream):
        if limit is None:
            raise ValueError("a stream has no end: give a limit.")
        dataset = dataset.first(limit)
    length = len(dataset)  # type: ignore[arg-type]  # torch's Dataset has no length, those here have one
    if limit is not None and limit < length:
        dataset = Subset(dataset, [i * length // limit for i in range(limit)])
        length = limit
    batch: list[torch.Tensor] = []
    for i in range(length):
        item = dataset[i]
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
