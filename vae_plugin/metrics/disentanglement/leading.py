"""Which latent is which factor."""

from __future__ import annotations

import torch

from ...arguments import Tensor, accepts


@accepts(shares=Tensor("D F"))
def leading_latents(shares: torch.Tensor) -> list[int]:
    """A latent of its own for each factor; the largest share of all is assigned first, then the largest of the others.

    Args:
        shares: what each of D latents tells of each of F factors, such as `Information.normalised`, (D, F).

    Raises:
        ValueError: if there are fewer latents than factors.
    """
    latents, factors = shares.shape
    if latents < factors:
        raise ValueError(f"{latents} latents cannot lead {factors} factors: give at least as many latents.")
    left, found = shares.double().clone(), [0] * factors
    for _ in range(factors):
        latent, factor = divmod(int(left.argmax()), factors)
        found[factor] = latent
        left[latent], left[:, factor] = -torch.inf, -torch.inf
    return found
