"""Images that have one factor in common: what the scores of FactorVAE and beta-VAE are computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...arguments import Whole, accepts
from .columns import BINS, CODES, FACTORS, check_columns, discrete, kinds_of

GROUPS, SIZE = 1500, 64  # of Locatello et al. 2019 there are 15,000, which changes the third decimal


@dataclass(frozen=True)
class Fixed:
    """Latents of groups of images, in each of which one factor is fixed.

    Attributes:
        codes: of groups of L images that share one value of the factor, (G, L, D); or of L pairs, the two of each
            sharing a value, (G, L, 2, D).
        factor: which factor it is, (G,) int64 from 0.
    """

    codes: torch.Tensor
    factor: torch.Tensor


class FixedFactors:
    """Draws images of a data set that have a factor in common.

    For each group a factor is drawn, and images; those with the same value of that factor (in the same bin, of what is
    not categorical) go with them, with repetition. Of factors that are not categorical the value is so fixed to
    1 / bins of its range; a generator that can fix it exactly is better where there is one.

    Args:
        codes: latents of N images, (N, D).
        factors: of the same images, (N, F), drawn independently of each other.
        kinds: see `information`.
        bins: of what is not categorical.
        seed: of what is drawn; the same at each call.

    Raises:
        ValueError: if a value is not finite, or a factor does not vary.
    """

    @accepts(codes=CODES, factors=FACTORS, bins=Whole(2), seed=Whole())
    def __init__(
        self,
        codes: torch.Tensor,
        factors: torch.Tensor,
        kinds: Sequence[str] | None = None,
        *,
        bins: int = BINS,
        seed: int = 0,
    ) -> None:
        check_columns(codes, factors)
        self._codes, self._seed = codes, seed
        self._alike = [_alike(column.numpy()) for column in discrete(factors, kinds_of(factors, kinds), bins)]

    @accepts(count=Whole(1), size=Whole(2))
    def groups(self, count: int = GROUPS, size: int = SIZE) -> Fixed:
        """Groups of `size` images that all share the value of a factor, for `factor_vae_score`."""
        rng, factor = self._factors(count)
        first = np.broadcast_to(rng.integers(len(self._codes), size=(count, 1)), (count, size))
        return self._fixed(self._drawn(factor, first, rng), factor)

    @accepts(count=Whole(1), size=Whole(1))
    def pairs(self, count: int = GROUPS, size: int = SIZE) -> Fixed:
        """Groups of `size` pairs, the two of each sharing the value of a factor, for `beta_vae_score`."""
        rng, factor = self._factors(count)
        first = rng.integers(len(self._codes), size=(count, size))
        return self._fixed(np.stack([first, self._drawn(factor, first, rng)], 2), factor)

    def _factors(self, count: int) -> tuple[np.random.Generator, np.ndarray]:
        rng = np.random.default_rng(self._seed)
        return rng, rng.integers(len(self._alike), size=count)

    def _drawn(self, factor: np.ndarray, first: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """For each image of `first` (G, L) one that has the same value of the factor (G,) of its group."""
        chosen, at = np.empty_like(first), rng.random(first.shape)
        for f, images in enumerate(self._alike):
            own = factor == f
            value = images.values[first[own]]
            chosen[own] = images.order[images.start[value] + (at[own] * images.count[value]).astype(np.int64)]
        return chosen

    def _fixed(self, chosen: np.ndarray, factor: np.ndarray) -> Fixed:
        return Fixed(self._codes[torch.from_numpy(chosen)], torch.from_numpy(factor))


@dataclass(frozen=True)
class _Alike:
    """The images by their value of a factor: `order` lists them by it, those of value v from `start[v]`, `count[v]`."""

    values: np.ndarray
    order: np.ndarray
    start: np.ndarray
    count: np.ndarray


def _alike(values: np.ndarray) -> _Alike:
    count = np.bincount(values)
    return _Alike(values, values.argsort(kind="stable"), count.cumsum() - count, count)
