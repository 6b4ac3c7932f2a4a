"""Which images, and which noise, a training step sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

_MASK = (1 << 64) - 1


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
        self.length = length
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
        generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch))
        order = torch.randperm(self.length, generator=generator)[self.first_image :]
        for step in range(len(self)):
            start = step * self.global_batch + self.rank * self.batch_size
            yield order[start : start + self.batch_size].tolist()


def image_noise(seed: int, images: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    """Standard normal noise of shape (B, ...) for B images, given by their numbers in the run.

    Every image's noise depends on the seed and its position alone, so neither the number of processes nor an
    interruption changes what a run computes.
    """
    noise, generator = torch.empty(tuple(shape), dtype=torch.float32), torch.Generator()
    if len(images) != len(noise):
        raise ValueError(f"got {len(images)} images for noise of shape {tuple(shape)}: give one for each row.")
    for image, row in zip(images, noise, strict=True):
        torch.randn(row.shape, generator=generator.manual_seed(_mix(seed, ~image)), out=row)
    return noise


def _mix(seed: int, counter: int) -> int:
    """A well spread 63-bit seed from two small numbers (the finaliser of SplitMix64, Steele et al. 2014)."""
    x = (seed * 0x9E3779B97F4A7C15 + counter * 0xD1B54A32D192ED03 + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return (x ^ (x >> 31)) >> 1
