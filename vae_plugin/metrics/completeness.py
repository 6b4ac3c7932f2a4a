"""Completeness of a latent space: whether what is decoded from the prior is like the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from ..arguments import Tensor, Whole, accepts
from ..autoencoders import Adapter
from ..errors import NotFiniteError
from ..models.exact import exact
from ..models.posteriors import DiagonalGaussian, standard_normal
from .aggregate import gaussian_kl, mmd_to_prior
from .neighbours import NEAREST, coverage_and_density, expected_coverage

LARGEST_SIDE = 64  # of images whose pixels are compared
MOST_SAMPLES = 4096  # whose distances are summed


def why_no_prior(adapter: Adapter) -> str | None:
    """Why nothing can be drawn from the prior of a model; None if it can."""
    return None if adapter.gaussian else f"{adapter.class_name} has no prior over its latents"


def small(images: torch.Tensor) -> torch.Tensor:
    """Images (N, C, H, W), averaged over areas to 64 pixels on the longer side if they are larger, (N, C, h, w)."""
    longest = max(images.shape[-2:])
    if longest <= LARGEST_SIDE:
        return images.float().cpu()
    height, width = (max(1, round(side * LARGEST_SIDE / longest)) for side in images.shape[-2:])
    return F.adaptive_avg_pool2d(images.float().cpu(), (height, width))


@torch.no_grad()
@accepts(count=Whole(1), height=Whole(1), width=Whole(1), batch_size=Whole(1))
def prior_samples(
    adapter: Adapter, count: int, height: int, width: int, seed: int, batch_size: int = 32
) -> torch.Tensor:
    """Images decoded from `count` samples of N(0, I), clamped to [-1, 1] and `small`, (count, C, h, w).

    Raises:
        NotFiniteError: if one is NaN or infinite.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for start in range(0, count, batch_size):
        shape = adapter.latent_shape(min(batch_size, count - start), height, width)
        z = standard_normal(shape, generator, adapter.model.device).to(adapter.model.dtype)
        found.append(small(adapter.decode(z, (height, width)).clamp(-1, 1)))
    images = torch.cat(found)
    if not images.isfinite().all():
        raise NotFiniteError("an image decoded from the prior")
    return images


@accepts(real=Tensor("N C H W"), generated=Tensor("M C H W"), k=Whole(1))
def coverage_beside_images(real: torch.Tensor, generated: torch.Tensor, k: int = NEAREST) -> dict[str, float]:
    """Coverage and density of generated images, beside those of real ones, all in terms of the same real images.

    Every second real image is a reference; the others take the place of generated ones for the baseline.

    Args:
        real: held-out images or features (N, ...), at least 2 k + 2.
        generated: as many as half of them, rounded up, or more, (M, ...); more are not looked at.
        k: see `coverage_and_density`.

    Returns:
        "prior_coverage" and "prior_density" of the generated images, "image_coverage" and "image_density" of the other
        half of the real ones, and "expected_coverage", which both would have if they were from one distribution.
    """
    reference, others = real[::2], real[1::2]
    of_prior = coverage_and_density(reference, generated[: len(others)], k)
    of_images = coverage_and_density(reference, others, k)
    return {
        "prior_coverage": of_prior.coverage,
        "prior_density": of_prior.density,
        "image_coverage": of_images.coverage,
        "image_density": of_images.density,
        "expected_coverage": expected_coverage(len(reference), len(others), k),
    }


class AggregatePosterior:
    """Accumulator of the aggregate posterior q(z) = mean of q(z|x) over the images.

    Of latents on a grid it is that of the vector over the channels at one position, over images and positions.
    """

    def __init__(self) -> None:
        self._count = 0
        self._sum: torch.Tensor | float = 0.0
        self._products: torch.Tensor | float = 0.0  # sum of E[z z^T]
        self._samples: dict[int, torch.Tensor] = {}

    def update(self, q: DiagonalGaussian, numbers: Sequence[int], seed: int = 0) -> None:
        """Add posteriors of a batch.

        Args:
            q: q(z|x), (B, D) or (B, C, h, w).
            numbers: of the B images in their data set.
            seed: of the samples of z, one of each image, and of the position where it is.
        """
        mean, var = (exact(values) for values in (q.mean, q.logvar.exp()))
        mean, var = (values.flatten(2) if values.ndim > 2 else values[:, :, None] for values in (mean, var))
        for number, m, v in zip(numbers, mean, var, strict=True):
            rng = np.random.default_rng((seed, number))  # of its own, however the images are shared out
            position = rng.integers(m.shape[1])
            noise = torch.from_numpy(rng.standard_normal(len(m)))
            self._samples[number] = m[:, position] + v[:, position].sqrt() * noise
        if len(self._samples) > 2 * MOST_SAMPLES:  # of any number of images, memory stays the same
            self._samples = dict(sorted(self._samples.items())[:MOST_SAMPLES])
        vectors = mean.transpose(1, 2).flatten(0, 1)
        self._count += len(vectors)
        self._sum = self._sum + vectors.sum(0)
        self._products = self._products + vectors.T @ vectors + var.sum((0, 2)).diag()

    def merge(self, other: AggregatePosterior) -> None:
        """Add what another has seen."""
        self._count += other._count
        self._sum, self._products = self._sum + other._sum, self._products + other._products
        self._samples |= other._samples

    def result(self) -> dict[str, float]:
        """The distance from the prior N(0, I), of two images or more.

        Returns:
            "aggregate_kl_nats", `gaussian_kl` of the mean and covariance of q(z), and "aggregate_mmd", `mmd_to_prior`
            of one sample of each image (4,096 of them at most).
        """
        if len(self._samples) < 2:
            return {}
        samples = torch.stack([self._samples[number] for number in sorted(self._samples)])
        assert isinstance(self._sum, torch.Tensor)
        assert isinstance(self._products, torch.Tensor)
        mean = self._sum / self._count
        covariance = self._products / self._count - torch.outer(mean, mean)
        return {
            "aggregate_kl_nats": gaussian_kl(mean, covariance),
            "aggregate_mmd": mmd_to_prior(samples[:MOST_SAMPLES]),
        }
