"""The score of FactorVAE."""

from __future__ import annotations

import torch

from ...arguments import Instance, accepts
from ...models.exact import exact
from .columns import CODES, train_and_test
from .fixed import Fixed


@accepts(codes=CODES, fixed=Instance((Fixed,), "groups with a factor fixed, see `FixedFactors.groups`"))
def factor_vae_score(codes: torch.Tensor, fixed: Fixed, seed: int = 0) -> float:
    """FactorVAE score (Kim & Mnih 2018, "Disentangling by Factorising", section 4 and figure 2).

    In each group one factor is fixed. The latent that varies least in it, its variance being divided by that over all
    images, is one vote; from two thirds of the votes it is learnt which factor each latent stands for, by majority, and
    the score is the share of the other votes that this gets right. Latents that never vary are left out.

    Perfect codes score 1. Chance is 1 / F. It does not mind two latents for one factor: redundant codes score 1, and so
    do the cos and sin of a periodic factor. A pair of factors that two latents share, turned by 45 degrees, cannot be
    told apart: 2/3 of three factors.

    Args:
        codes: latents of N images in which everything varies, (N, D).
        fixed: groups (G, L, D).
        seed: of the votes that are held out.

    Returns:
        Between 0 and 1, the larger the better.

    Raises:
        ValueError: if the groups have other latents, are fewer than three, or no latent varies.
    """
    if fixed.codes.ndim != 3 or fixed.codes.shape[2] != codes.shape[1] or len(fixed.codes) < 3:
        raise ValueError(
            f"fixed has codes {tuple(fixed.codes.shape)}: expected (G, L, {codes.shape[1]}) of at least 3 groups."
        )
    spread = exact(codes).var(0, correction=0)
    varies = spread > 0
    if not varies.any():
        raise ValueError("no latent varies: give codes of different images.")
    votes = (exact(fixed.codes)[:, :, varies].var(1) / spread[varies]).argmin(1)
    table = torch.zeros(int(varies.sum()), int(fixed.factor.max()) + 1, dtype=torch.long)
    train, test = train_and_test(len(votes), seed)
    table.index_put_((votes[train], fixed.factor[train]), torch.tensor(1), accumulate=True)
    return float((table.argmax(1)[votes[test]] == fixed.factor[test]).double().mean())
