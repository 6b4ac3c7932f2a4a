"""What stands in for networks that are published elsewhere."""

from __future__ import annotations

import torch

from vae_plugin.training.losses import PerceptualDistance


class Convolved(torch.nn.Conv2d):
    """One feature map."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
        return (super().forward(x),)


def network() -> PerceptualDistance:
    """A perceptual distance with random features, in place of LPIPS."""
    torch.manual_seed(0)
    return PerceptualDistance(Convolved(3, 4, 3))


def another() -> PerceptualDistance:
    """A second one, in place of ConvNeXt."""
    torch.manual_seed(1)
    return PerceptualDistance(Convolved(3, 4, 3))
