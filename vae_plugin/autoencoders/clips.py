"""Videos through a class of videos that is trained by its images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .adapter import Adapter


def video_reconstruction(adapter: Adapter) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from videos (B, C, T, H, W) to their reconstruction by the whole model, as it is saved.

    What it returns is on the device of the videos, and of their type.

    Args:
        adapter: of a class of videos, see `Adapter.clip_frames`. Later changes of its weights have no effect.
    """
    whole: Any = adapter.to_saved().to(adapter.model.device).eval()

    @torch.no_grad()
    def reconstruct(videos: torch.Tensor) -> torch.Tensor:
        z = whole.encode(videos.to(whole.device, whole.dtype)).latent_dist.mode()
        return whole.decode(z).sample.to(videos)

    return reconstruct
