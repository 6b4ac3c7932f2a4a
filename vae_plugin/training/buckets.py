"""Whole images of several sizes: which sizes a run has, and whether its model takes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
from torch.utils.data import Dataset, Subset

from ..datasets import ImageDataset, ImageStream
from ..datasets.batches import bucket_numbers
from ..datasets.framing import WHOLE, Size, aspect_buckets
from ..errors import UserError


class ImageTaker(Protocol):
    """What is asked of a model before images are loaded for it; every adapter answers it, see there."""

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        ...

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels of the image per position of the latent grid, along one side."""
        ...

    @property
    def only_image_size(self) -> tuple[int, int] | None:
        """Height and width of the only images that it takes, if so."""
        ...

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The values of image files that become -1 and 1, where they are recorded."""
        ...

    def check_image_size(self, height: int, width: int, what: str) -> None:
        """Refuse images that it does not take, which the error calls `what`."""
        ...


def image_sizes(adapter: ImageTaker, crop: str, resolution: int) -> tuple[Size, ...]:
    """All sizes that the images of a run can have, (width, height) in pixels.

    Args:
        adapter: of the model, or what takes the images in its place.
        crop: of the run or the command.
        resolution: likewise.

    Raises:
        UserError: if the model does not take all of them.
    """
    if crop != WHOLE:
        return ((resolution, resolution),)
    if (only := adapter.only_image_size) is not None:
        raise UserError(
            f"--crop whole makes images of several sizes, and this model takes {only[0]} x {only[1]} pixels only: "
            "give another --crop."
        )
    buckets = aspect_buckets(resolution, adapter.spatial_compression_ratio)
    for width, height in buckets:
        adapter.check_image_size(height, width, f"an image of {width} x {height} pixels (--crop whole)")
    return buckets


def fill_buckets(images: Dataset | ImageStream, global_batch: int) -> str:
    """Give up the buckets that have less than one batch of images, which then go to the nearest of the others.

    Args:
        images: to train on, with buckets; their framing is changed.
        global_batch: images of a batch over all processes.

    Returns:
        A sentence on the buckets that are left.
    """
    owner = images.dataset if isinstance(images, Subset) else images
    assert isinstance(owner, ImageDataset)  # a stream has no buckets
    while True:
        buckets, numbers = owner.framing.buckets, bucket_numbers(images)  # type: ignore[arg-type]
        assert numbers is not None
        counts = np.bincount(numbers, minlength=len(buckets)).tolist()
        kept = [found for found in zip(counts, buckets, strict=True) if found[0]]
        enough = min(kept)[0] >= global_batch or len(kept) == 1
        kept = kept if enough else [found for found in kept if found != min(kept)]
        owner.framing = replace(owner.framing, buckets=tuple(bucket for _, bucket in kept))
        if enough:
            break
    sizes = ", ".join(f"{width} x {height} ({count:,})" for count, (width, height) in kept)
    sentence = f"whole images, in batches of one size: {sizes}."
    rows = owner.rows[list(images.indices)] if isinstance(images, Subset) else owner.rows
    assert owner.sizes is not None
    small = (owner.sizes[rows] < np.array(buckets)[numbers]).any(1).sum()
    return sentence if not small else f"{sentence} {small:,} of them are smaller than that and are enlarged."
