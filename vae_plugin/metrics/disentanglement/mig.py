"""The mutual information gap."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...arguments import Instance, accepts
from .columns import BINS
from .information import Information, information


def mig(codes: torch.Tensor, factors: torch.Tensor, kinds: Sequence[str] | None = None, bins: int = BINS) -> float:
    """Mutual information gap (Chen et al. 2018, "Isolating Sources of Disentanglement in VAEs", equation 6).

    The mean over factors of (I(z_1st; v) - I(z_2nd; v)) / H(v), where z_1st and z_2nd are the two latents that tell
    most about v. A factor in one latent and no other scores 1; one that is in two latents alike scores 0.

    The information is estimated by `information` from 20 bins, as in disentanglement_lib and most papers since. Chen et
    al. average densities of q(z|x) instead. Numbers of the two cannot be compared, nor those of different `bins`.

    A periodic factor that a model lays on two latents, as cos and sin, scores about 0, although nothing is entangled:
    each of the two tells as much of it. One latent that runs once around the circle scores 1, with a seam.

    Args:
        codes: latents of N images, (N, D), commonly posterior means.
        factors: of the same images, (N, F), drawn independently of each other.
        kinds: see `information`.
        bins: see `information`.

    Returns:
        Between 0 and 1, the larger the better.

    Raises:
        ValueError: if a value is not finite, or a factor does not vary.
    """
    return float(gaps(information(codes, factors, kinds, bins)).mean())


@accepts(of=Instance((Information,), "what `information` returns"))
def gaps(of: Information) -> torch.Tensor:
    """The gap of each factor, (F,) in [0, 1], whose mean is the score; with one latent only the second is 0."""
    best = of.normalised.sort(dim=0, descending=True).values
    return best[0] - best[1] if len(best) > 1 else best[0]
