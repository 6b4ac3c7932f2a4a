"""The loss of training as one module, so that one call of its `forward` is one pass through the wrapped model."""

from __future__ import annotations

import torch
from torch import nn

from ...autoencoders import Adapter

Terms = dict[str, torch.Tensor]


def logged_name(name: str) -> str:
    """The name in the curves of a loss that an option calls so: that of lpips-vgg is lpips_vgg."""
    return name.replace("-", "_")


class TrainingLoss(nn.Module):
    """A model together with its loss, and what a run asks of the two.

    Distributed wrappers synchronise gradients only for what runs inside their `forward`; encoding and decoding through
    the bare model would train every process on its own. This module is what gets wrapped.

    Args:
        adapter: of the model; its weights are parameters of this module.
    """

    def __init__(self, adapter: Adapter) -> None:
        super().__init__()
        self.adapter = adapter
        self.model = adapter.model

    has_alpha = False  # whether the fourth channel of images is alpha, so that they are judged over backgrounds
    num_importance_samples = 0  # K of the importance-weighted bound, where that is trained on and so measured

    def forward(
        self, x: torch.Tensor, noise: torch.Tensor, step: int, backgrounds: torch.Tensor | None = None
    ) -> Terms:
        """One training pass.

        Args:
            x: images (B, C, H, W) in [-1, 1].
            noise: standard normal, of `noise_shape`.
            step: optimiser step, from 0, for the schedules.
            backgrounds: colours that the images are judged over, (B, 3) in [-1, 1], of a loss with `has_alpha`.

        Returns:
            "loss" with gradient. Without gradient, means over the batch: "mse", the mean squared error in the [-1, 1]
            range, and the terms of the loss by name. A loss with a discriminator adds "reconstruction", (B, C, H, W).
        """
        raise NotImplementedError

    def noise_shape(self, batch_size: int, height: int, width: int) -> tuple[int, ...]:
        """Shape of the noise that `forward` needs."""
        return self.adapter.noise_shape(batch_size, height, width)

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """What evaluation compares with the images x."""
        return self.adapter.reconstruct(x)

    def compare(self, x: torch.Tensor, reconstruction: torch.Tensor) -> Terms:
        """What evaluation measures beside PSNR and SSIM, (B,) each."""
        return {}

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what `compare` gives."""
        return ()

    @property
    def perceptual_measures(self) -> tuple[str, ...]:
        """Those of them that are perceptual distances."""
        return ()

    def place_frozen(self, device: torch.device) -> None:
        """Move the networks that are neither trained nor saved with the model."""
