"""How far the latents of all images together are from the prior."""

from __future__ import annotations

import torch

from ..arguments import Tensor, accepts
from ..models.exact import exact

ROWS = 512  # whose distances are in memory together


@accepts(mean=Tensor("D"), covariance=Tensor("D D"))
def gaussian_kl(mean: torch.Tensor, covariance: torch.Tensor) -> float:
    """KL(N(mean, covariance) || N(0, I)) in nats: (tr S + m^T m - D - log det S) / 2; infinite for a singular S.

    Of the aggregate posterior q(z), the mixture of all q(z|x), with these moments, it is a lower bound of
    KL(q(z) || p(z)): the rest is KL(q(z) || N(mean, covariance)). Estimated from N vectors it is too large by about
    D (D + 3) / 4N.

    Args:
        mean: (D,).
        covariance: (D, D).
    """
    m, s = exact(mean), exact(covariance)
    return float((s.trace() + m @ m - len(m) - torch.linalg.slogdet(s).logabsdet) / 2)


@accepts(z=Tensor("N D"))
def mmd_to_prior(z: torch.Tensor) -> float:
    """Squared maximum mean discrepancy between samples of the aggregate posterior and N(0, I) (Gretton et al. 2012).

    The kernel is k(a, b) = exp(-|a - b|^2 / 2D), where 2D is the mean square distance of two samples of the prior.
    Expectations over the prior are closed forms, so no sample of it is drawn; over z it is the unbiased
    U-statistic, which is around 0, possibly below, if z is from the prior. At most 1 + (D / (D + 2))^(D/2), below 2.

    Args:
        z: independent samples, (N, D), at least two: one z of each of N images.

    Raises:
        ValueError: for a single sample.
    """
    if len(z) < 2:
        raise ValueError("z is one sample: give at least two.")
    z = exact(z)
    count, d = z.shape
    within = sum(float((-torch.cdist(rows, z).square() / (2 * d)).exp().sum()) for rows in z.split(ROWS))
    within = (within - count) / (count * (count - 1))
    across = float((-z.square().sum(1) / (2 * (d + 1))).exp().mean()) * (d / (d + 1)) ** (d / 2)
    return within - 2 * across + (d / (d + 2)) ** (d / 2)
