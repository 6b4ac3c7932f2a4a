"""Measures of a whole set of images, each an accumulator that sees every batch once and keeps no image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch

from ..autoencoders import Adapter
from ..models.distributed import objects_over_processes
from ..models.exact import exact
from ..models.posteriors import DiagonalGaussian
from ..models.vqvae import CodePosterior
from .codebook import CodebookUsage
from .latent import RunningMoments

ACTIVE_VARIANCE = 0.01  # of the posterior means of an active unit, see `active_units`


@dataclass(frozen=True)
class Seen:
    """What a measure sees of a batch: this process's images that count, at least one.

    Attributes:
        adapter: of the model.
        images: (B, C, H, W) in [-1, 1], on the model's device and in its precision.
        reconstructions: of them, (B, C, H, W).
        posterior: of them, q(z|x) as `Adapter.posterior` gives it.
        numbers: of the images in their data set.
    """

    adapter: Adapter
    images: torch.Tensor
    reconstructions: torch.Tensor
    posterior: Any
    numbers: tuple[int, ...]

    @cached_property
    def point(self) -> torch.Tensor:
        """The latents of the images as a point, see `Adapter.latents`."""
        gaussian = isinstance(self.posterior, DiagonalGaussian)
        return self.posterior.mean if gaussian else self.adapter.latents(self.images)

    @cached_property
    def latents(self) -> torch.Tensor:
        """The same as `Adapter.statistics_vectors` has them: (B, C, h, w)."""
        return self.adapter.statistics_vectors(self.point)


class Measure(Protocol):
    """A measure of a set of images, see `evaluate`."""

    def update(self, seen: Seen) -> None:
        """Take a batch. It does not communicate: other processes may have no batch at that time."""
        ...

    def all_reduce(self) -> None:
        """Add what all processes have seen; every process calls this once, after the last batch."""
        ...

    def result(self) -> dict[str, Any]:
        """Plain values by name: numbers, and lists with a number for each channel. What is not known is absent."""
        ...


class ActiveUnits:
    """`active_units` of a stream: the variance of each unit's posterior mean, in constant memory.

    Where images have several sizes a unit is not the same thing in all of them, and there is no such number.
    """

    def __init__(self) -> None:
        self._moments, self._shapes = RunningMoments(), set[tuple[int, ...]]()

    def update(self, seen: Seen) -> None:
        """Take the means of Gaussian posteriors."""
        if isinstance(seen.posterior, DiagonalGaussian):
            means = seen.posterior.mean
            self._shapes.add(tuple(means.shape[1:]))
            if len(self._shapes) == 1:
                self._moments.update(means.flatten(1))

    def all_reduce(self) -> None:
        """Add what all processes have seen."""
        self._shapes = set[tuple[int, ...]]().union(*objects_over_processes(self._shapes))
        if len(self._shapes) == 1:
            self._moments.all_reduce()

    def result(self) -> dict[str, Any]:
        """`active_units` of two or more images, all of one size."""
        if len(self._shapes) != 1 or self._moments.count < 2:
            return {}
        return {"active_units": int((self._moments.std.square() > ACTIVE_VARIANCE).sum())}


class Codes:
    """What `CodebookUsage` counts, and the size of the indices, of a model with a codebook."""

    def __init__(self, codebook_size: int) -> None:
        self._usage = CodebookUsage(codebook_size)
        self._nats, self._pixels = 0.0, 0

    def update(self, seen: Seen) -> None:
        """Count the indices of the images."""
        if isinstance(seen.posterior, CodePosterior):
            self._usage.update(seen.posterior.indices)
            self._nats += exact(seen.posterior.kl()).sum().item()
            self._pixels += len(seen.images) * seen.images[0, 0].numel()

    def all_reduce(self) -> None:
        """Add what all processes have seen."""
        counts, nats, pixels = zip(*objects_over_processes((self._usage.counts, self._nats, self._pixels)), strict=True)
        self._usage.counts, self._nats, self._pixels = torch.stack(counts).sum(0), sum(nats), sum(pixels)

    def result(self) -> dict[str, Any]:
        """See `CodebookUsage.result`; "bits_per_pixel" of the indices as they are, each log2 of the number of codes."""
        size = {"bits_per_pixel": self._nats / math.log(2) / self._pixels} if self._pixels else {}
        return {**self._usage.result(), **size}


class KLPerChannel:
    """The KL divergence of each latent channel, summed over positions and averaged over images."""

    def __init__(self) -> None:
        self._sum: torch.Tensor | float = 0.0
        self._images = 0

    def update(self, seen: Seen) -> None:
        """Take Gaussian posteriors."""
        if isinstance(seen.posterior, DiagonalGaussian):
            kl = exact(seen.posterior.kl_per_dimension())
            self._sum = self._sum + kl.flatten(2).sum(2).sum(0) if kl.ndim > 2 else self._sum + kl.sum(0)
            self._images += len(kl)

    def all_reduce(self) -> None:
        """Add what all processes have seen."""
        sums, images = zip(*objects_over_processes((self._sum, self._images)), strict=True)
        self._sum, self._images = sum(sums), sum(images)

    def result(self) -> dict[str, Any]:
        """The list "kl_nats_per_channel", whose sum is "kl_nats"."""
        return {"kl_nats_per_channel": (self._sum / self._images).tolist()} if torch.is_tensor(self._sum) else {}


class LatentMoments:
    """Mean and standard deviation of the latents that `encode` gives, per channel over images and positions.

    Of the latents as a point (see `Adapter.latents`), shifted and scaled as pipelines have them, and of the same before
    that; a diffusion model is best served by mean 0 and standard deviation 1 of the former.
    """

    def __init__(self) -> None:
        self._moments = RunningMoments()
        self._adapter: Adapter | None = None

    def update(self, seen: Seen) -> None:
        """Take the latents of the images."""
        self._adapter = seen.adapter
        self._moments.update(seen.latents)

    def all_reduce(self) -> None:
        """Add what all processes have seen."""
        self._moments.all_reduce()

    def result(self) -> dict[str, Any]:
        """Lists "latent_mean_per_channel", "latent_std_per_channel"; "pipeline_..." after shift and scale."""
        if self._adapter is None:
            return {}
        mean, std = self._moments.mean, self._moments.std
        result = {"latent_mean_per_channel": mean.tolist(), "latent_std_per_channel": std.tolist()}
        if not self._adapter.discrete:
            mean, std = self._adapter.pipeline_statistics(mean, std)
            result |= {"pipeline_mean_per_channel": mean.tolist(), "pipeline_std_per_channel": std.tolist()}
        return result
