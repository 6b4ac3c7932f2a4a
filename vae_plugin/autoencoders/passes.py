"""What an adapter gives of one pass through its autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from ..models.posteriors import DiagonalGaussian, Generators
from ..models.vqvae import CodePosterior


@dataclass
class DeterministicPosterior:
    """q(z|x) of a deterministic autoencoder: all its mass on one latent.

    Attributes:
        latents: (B, C, h, w).
    """

    latents: torch.Tensor

    @property
    def mean(self) -> torch.Tensor:
        """The latents."""
        return self.latents

    def mode(self) -> torch.Tensor:
        """The latents."""
        return self.latents

    def sample(self, generator: Generators = None) -> torch.Tensor:
        """The latents: there is nothing to draw."""
        return self.latents


Posterior = DiagonalGaussian | CodePosterior | DeterministicPosterior


@dataclass
class TrainingPass:
    """One pass through an autoencoder, with its graph.

    Attributes:
        reconstruction: (B, C, H, W), about in [-1, 1].
        latents: what `Adapter.latents` gives for the images, where the pass computed it.
        kl: KL(q(z|x) || N(0, I)) per image in nats, (B,), of a Gaussian posterior.
        codebook_losses: losses of a quantiser by name, weighted.
    """

    reconstruction: torch.Tensor
    latents: torch.Tensor | None = None
    kl: torch.Tensor | None = None
    codebook_losses: Mapping[str, torch.Tensor] = field(default_factory=dict)
