"""Images where pipelines have videos of one frame."""

from __future__ import annotations

import torch

from ..errors import UserError
from ..wording import NO_VIDEOS


def only_frame(x: torch.Tensor) -> torch.Tensor:
    """Images or latents (B, C, H, W) without their axis of time.

    Raises:
        UserError: if there is more than one frame.
    """
    if x.ndim != 5:
        return x
    if x.shape[2] != 1:
        raise UserError(
            f"{x.shape[2]} frames were given, of shape {tuple(x.shape)}: {NO_VIDEOS}, so give one frame, "
            "(B, C, 1, H, W) or (B, C, H, W)."
        )
    return x[:, :, 0]
