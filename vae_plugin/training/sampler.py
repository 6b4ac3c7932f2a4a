"""Which images, and which noise, a training step sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Sampler

_MASK = (1 << 64) - 1
_BACKGROUNDS = 1 << 62  # apart from the counters of epochs and noise


class GlobalBatchSampler(Sampler[list[int]]):
    """One epoch of batches, cut from one seeded permutation that all processes share.

    A global batch is the next `batch_size * num_processes` entries of the permutation, and process r takes the r-th
    part of it. So P processes with batch B see what one process with batch P * B sees, step by step, and an epoch can
    be entered at any image. What does not fill the last optimiser step is left out of this epoch.

    Args:
        length: of the data set.
        batch_size: of one process.
        rank: this process, from 0.
        num_processes: P.
        seed: with `epoch`, decides the permutation.
        epoch: from 0.
        first_image: how many images of this epoch all processes together have already seen.
        accumulation: global batches of an optimiser step.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        rank: int = 0,
        num_processes: int = 1,
        seed: int = 0,
        epoch: int = 0,
        first_image: int = 0,
        accumulation: int = 1,
    ) -> None:
        self.length = self.images = length
        self.batch_size = batch_size
        self.rank = rank
        self.global_batch = batch_size * num_processes
        self.seed = seed
        self.epoch = epoch
        self.first_image = first_image
        self.accumulation = accumulation

    def __len__(self) -> int:
        steps = max(0, self.length - self.first_image) // (self.global_batch * self.accumulation)
        return steps * self.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order(torch.Generator().manual_seed(_mix(self.seed, self.epoch)))[self.first_image :]
        for step in range(len(self)):
            start = step * self.global_batch + self.rank * self.batch_size
            yield order[start : start + self.batch_size].tolist()

    def _order(self, generator: torch.Generator) -> torch.Tensor:
        """The images of the epoch."""
        return torch.randperm(self.images, generator=generator)


class BucketSampler(GlobalBatchSampler):
    """The same of images of several sizes: those of a global batch have one size.

    The permutation is cut into the batches of each bucket, and the batches come in the order in which they are filled.
    What does not fill a batch of its bucket is left out of this epoch; the next one has another permutation.

    Args:
        buckets: the bucket of each image.
        batch_size: see `GlobalBatchSampler`.
        more: further arguments of it.
    """

    def __init__(self, buckets: Sequence[int] | np.ndarray, batch_size: int, **more: int) -> None:
        super().__init__(len(buckets), batch_size, **more)
        self.buckets = np.asarray(buckets)
        self.length = filled(self.buckets, self.global_batch)

    def _order(self, generator: torch.Generator) -> torch.Tensor:
        order = super()._order(generator).numpy()
        found = self.buckets[order]
        batches = []  # of each bucket, as places in the permutation
        for bucket in np.unique(self.buckets):
            places = np.flatnonzero(found == bucket)
            batches.append(
                places[: len(places) // self.global_batch * self.global_batch].reshape(-1, self.global_batch)
            )
        together = np.concatenate(batches)
        return torch.from_numpy(order[together[together[:, -1].argsort()]].reshape(-1))


def filled(buckets: np.ndarray, global_batch: int) -> int:
    """How many images an epoch shows: those in full batches of one bucket."""
    counts = np.bincount(buckets)
    return int((counts // global_batch * global_batch).sum())


def image_noise(seed: int, images: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    """Standard normal noise of shape (B, ...) for B images, given by their numbers in the run.

    Every image's noise depends on the seed and its position alone, so neither the number of processes nor an
    interruption changes what a run computes.
    """
    noise, generator = torch.empty(tuple(shape), dtype=torch.float32), torch.Generator()
    if len(images) != len(noise):
        raise ValueError(f"got {len(images)} images for noise of shape {tuple(shape)}: give one for each row.")
    for image, row in zip(images, noise.unbind(), strict=True):
        row.normal_(generator=generator.manual_seed(_mix(seed, ~image)))
    return noise


def image_backgrounds(seed: int, images: Sequence[int]) -> torch.Tensor:
    """Colours that images with alpha are seen over, (B, 3), uniform in [-1, 1]; by seed and number as noise is."""
    colours, generator = torch.empty(len(images), 3), torch.Generator()
    for image, row in zip(images, colours, strict=True):
        row.uniform_(-1, 1, generator=generator.manual_seed(_mix(seed, _BACKGROUNDS + image)))
    return colours


def _mix(seed: int, counter: int) -> int:
    """A well spread 63-bit seed from two small numbers (the finaliser of SplitMix64, Steele et al. 2014)."""
    x = (seed * 0x9E3779B97F4A7C15 + counter * 0xD1B54A32D192ED03 + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return (x ^ (x >> 31)) >> 1
