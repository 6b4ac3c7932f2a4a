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


@accepts(codes=CODES, factors=FACTORS, groups=Whole(1), size=Whole(2), bins=Whole(2), seed=Whole())
def fixed_groups(
    codes: torch.Tensor,
    factors: torch.Tensor,
    kinds: Sequence[str] | None = None,
    *,
    groups: int = GROUPS,
    size: int = SIZE,
    bins: int = BINS,
    seed: int = 0,
) -> Fixed:
    """Groups of images of a data set in which a factor is fixed, for `factor_vae_score`.

    For each group a factor and an image are drawn, and from the images with the same value of that factor (in the same
    bin, of what is not categorical) all of the group, with repetition. Of factors that are not categorical the value is
    so fixed to 1 / bins of its range; a generator that can fix it exactly is better where there is one.

    Args:
        codes: latents of N images, (N, D).
        factors: of the same images, (N, F), drawn independently of each other.
        kinds: see `information`.
        groups: how many, G.
        size: images in each, L.
        bins: of what is not categorical.
        seed: of what is drawn.

    Raises:
        ValueError: if a value is not finite, or a factor does not vary.
    """
    rng, alike = np.random.default_rng(seed), _alike(codes, factors, kinds, bins)
    factor = rng.integers(factors.shape[1], size=groups)
    first = np.broadcast_to(rng.integers(len(codes), size=(groups, 1)), (groups, size))
    chosen = _drawn(alike, factor, first, rng)
    return Fixed(codes[torch.from_numpy(chosen)], torch.from_numpy(factor))


@accepts(codes=CODES, factors=FACTORS, groups=Whole(1), size=Whole(1), bins=Whole(2), seed=Whole())
def fixed_pairs(
    codes: torch.Tensor,
    factors: torch.Tensor,
    kinds: Sequence[str] | None = None,
    *,
    groups: int = GROUPS,
    size: int = SIZE,
    bins: int = BINS,
    seed: int = 0,
) -> Fixed:
    """Groups of L pairs of images of a data set, for `beta_vae_score`; the two of a pair share the value of a factor.

    The arguments are those of `fixed_groups`.
    """
    rng, alike = np.random.default_rng(seed), _alike(codes, factors, kinds, bins)
    factor = rng.integers(factors.shape[1], size=groups)
    first = rng.integers(len(codes), size=(groups, size))
    chosen = np.stack([first, _drawn(alike, factor, first, rng)], 2)
    return Fixed(codes[torch.from_numpy(chosen)], torch.from_numpy(factor))


@dataclass(frozen=True)
class _Alike:
    """The images by their value of a factor: `order` lists them by it, those of value v from `start[v]`, `count[v]`."""

    values: np.ndarray
    order: np.ndarray
    start: np.ndarray
    count: np.ndarray


def _alike(codes: torch.Tensor, factors: torch.Tensor, kinds: Sequence[str] | None, bins: int) -> list[_Alike]:
    check_columns(codes, factors)
    found = []
    for column in discrete(factors, kinds_of(factors, kinds), bins):
        values = column.numpy()
        count = np.bincount(values)
        found.append(_Alike(values, values.argsort(kind="stable"), count.cumsum() - count, count))
    return found


def _drawn(alike: list[_Alike], factor: np.ndarray, first: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each image of `first` (G, L) one that has the same value of the factor (G,) of its group."""
    chosen, at = np.empty_like(first), rng.random(first.shape)
    for f, images in enumerate(alike):
        own = factor == f
        value = images.values[first[own]]
        chosen[own] = images.order[images.start[value] + (at[own] * images.count[value]).astype(np.int64)]
    return chosen
