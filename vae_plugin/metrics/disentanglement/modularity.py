"""Modularity: whether each latent tells of one factor only."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .columns import BINS
from .information import information


def modularity(
    codes: torch.Tensor, factors: torch.Tensor, kinds: Sequence[str] | None = None, bins: int = BINS
) -> float:
    """Modularity (Ridgeway & Mozer 2018, "Learning Deep Disentangled Embeddings with the F-Statistic Loss").

    The mean over latents of 1 - sum_f' I(z; v_f')^2 / (I(z; v_best)^2 (F - 1)), where f' goes through all factors but
    the one that the latent tells most of. A latent that tells of one factor alone scores 1, one that tells the same of
    all scores 0. A latent that tells nothing scores as noise does, and 0 if it is constant: leave inactive ones out.

    It does not mind several latents that tell of one factor: redundant codes score 1, and so do the cos and sin of a
    periodic factor. Two latents that share two of three factors, turned by 45 degrees, score 1/2 each.

    Args:
        codes: latents of N images, (N, D).
        factors: of the same images, (N, F), at least two.
        kinds: see `information`.
        bins: see `information`.

    Returns:
        Between 0 and 1, the larger the better.

    Raises:
        ValueError: if a value is not finite, a factor does not vary, or there is only one.
    """
    if factors.ndim == 2 and factors.shape[1] < 2:
        raise ValueError("factors has one column: modularity compares at least two factors.")
    squares = information(codes, factors, kinds, bins).matrix.square()
    best = squares.max(1).values
    others = (squares.sum(1) - best) / (factors.shape[1] - 1)
    return float(torch.where(best > 0, 1 - others / best.clamp(min=1e-300), 0.0).mean())
