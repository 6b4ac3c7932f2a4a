"""Batches of images that several processes go through together."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..arguments import Tensor, check
from .posteriors import NoiseShare

SOME_IMAGES = Tensor("N C H W")


@dataclass(frozen=True)
class Share:
    """The part of a batch that is this process's.

    Attributes:
        images: (B, C, H, W) in [-1, 1].
        numbers: of the images in the data set; those without a number, at the end, do not count.
        first: images of the batch that the processes before this one have.
        total: images of the batch, over all processes.
    """

    images: torch.Tensor
    numbers: tuple[int, ...]
    first: int
    total: int

    def noise(self, generator: torch.Generator) -> NoiseShare:
        """The noise of these images, of a generator that all processes have in the same state."""
        return NoiseShare(generator, self.first, self.total)


def as_share(batch: torch.Tensor | Share, first: int = 0) -> Share:
    """A share as it is; of images (B, C, H, W) one process has everything, and they are numbered from `first`."""
    if isinstance(batch, Share):
        return batch
    check({"images": SOME_IMAGES}, {"images": batch})
    return Share(batch, tuple(range(first, first + len(batch))), 0, len(batch))
