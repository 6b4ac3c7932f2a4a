"""Mutual information between latents and factors, on which MIG and modularity stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...arguments import Whole, accepts
from .columns import BINS, CODES, FACTORS, check_columns, discrete, equal_bins, kinds_of


@dataclass(frozen=True)
class Information:
    """What each latent says about each factor.

    Attributes:
        matrix: mutual information I(z_d; v_f) in nats, (D, F) float64.
        entropies: H(v_f) of the factors in nats, (F,) float64; no entry of a column of `matrix` is larger.
    """

    matrix: torch.Tensor
    entropies: torch.Tensor

    @property
    def normalised(self) -> torch.Tensor:
        """I(z_d; v_f) / H(v_f), (D, F) in [0, 1]: the part of a factor that a latent tells."""
        return self.matrix / self.entropies


@accepts(codes=CODES, factors=FACTORS, bins=Whole(2))
def information(
    codes: torch.Tensor, factors: torch.Tensor, kinds: Sequence[str] | None = None, bins: int = BINS
) -> Information:
    """Mutual information of every latent and every factor, from counts.

    The estimator of Locatello et al. 2019 (disentanglement_lib): latents, and factors that are not categorical, are cut
    into bins of one width between their smallest and largest value, and the counts are taken for probabilities. That
    is biased upwards by about (bins - 1)^2 / 2N nats for N images (Miller 1955): .02 for 20 bins and 10,000 images.

    Args:
        codes: latents of N images, (N, D).
        factors: of the same images, (N, F).
        kinds: of each factor "continuous", "periodic" (in turns, so that v and v + 1 are the same) or "categorical"; by
            default integers are categories and the rest is continuous.
        bins: of what is not categorical.

    Raises:
        ValueError: if a value is not finite, or a factor does not vary.
    """
    check_columns(codes, factors)
    columns = discrete(factors, kinds_of(factors, kinds), bins)
    latents = [equal_bins(column, bins) for column in codes.unbind(1)]
    matrix = torch.stack([torch.stack([_mutual(latent, column) for column in columns]) for latent in latents])
    return Information(matrix, torch.stack([_entropy(column) for column in columns]))


def _mutual(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mutual information of two columns (N,) of integers from 0, in nats."""
    rows, columns = int(a.max()) + 1, int(b.max()) + 1
    joint = torch.bincount(a * columns + b, minlength=rows * columns).double().view(rows, columns) / len(a)
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    # Between independent columns rounding leaves something below 0.
    return (torch.xlogy(joint, joint) - torch.xlogy(joint, apart)).sum().clamp(min=0)


def _entropy(column: torch.Tensor) -> torch.Tensor:
    p = torch.bincount(column).double() / len(column)
    return -torch.xlogy(p, p).sum()
