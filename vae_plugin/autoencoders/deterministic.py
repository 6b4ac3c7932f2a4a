"""What deterministic autoencoders have in common."""

from __future__ import annotations

import torch

from .adapter import Adapter
from .passes import DeterministicPosterior, TrainingPass


class DeterministicAdapter(Adapter):
    """An autoencoder whose encoder gives the latents themselves."""

    gaussian = False

    def posterior(self, x: torch.Tensor) -> DeterministicPosterior:
        """The latents of images padded to a multiple of the spatial compression ratio."""
        return DeterministicPosterior(self.model.encode(self._padded(x))[0])

    def training_pass(self, x: torch.Tensor, noise: torch.Tensor) -> TrainingPass:
        """Encode, decode; there is nothing to sample."""
        z = self.latents(x)
        return TrainingPass(self.decode_unclamped(z, x.shape[-2:]), z)
