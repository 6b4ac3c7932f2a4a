"""One pass through an autoencoder: the mode it runs in, and what its adapter gives of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

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


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the time of the block; then every part has the mode it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
