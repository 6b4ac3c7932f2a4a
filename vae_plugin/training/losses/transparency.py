"""Images with transparency, as they are seen over a background."""

from __future__ import annotations

import torch

ALPHA = 3  # the channel of alpha in RGBA


def over(images: torch.Tensor, backgrounds: torch.Tensor) -> torch.Tensor:
    """Composite RGBA over a colour each: colour x alpha + background x (1 - alpha), (B, 3, H, W).

    Nothing is clipped, so that a gradient reaches every alpha. The colour of what is transparent has no influence.

    Args:
        images: (B, 4, H, W), the colours in [-1, 1] and not multiplied by alpha; alpha from -1, transparent, to 1.
        backgrounds: a colour for each, (B, 3) in [-1, 1].
    """
    alpha = (images[:, ALPHA : ALPHA + 1] + 1) / 2
    return images[:, :ALPHA] * alpha + backgrounds[:, :, None, None] * (1 - alpha)


def over_black_and_white(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The images over black and over white, where every difference that can be seen is seen."""
    black = images.new_full((len(images), 3), -1.0)
    return over(images, black), over(images, -black)
