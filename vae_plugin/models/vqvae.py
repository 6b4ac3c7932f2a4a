"""The vector-quantised autoencoder of van den Oord et al. 2017, "Neural Discrete Representation Learning"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .autoencoder import EncoderDecoder
from .posteriors import Generators
from .quantizers import Quantizer
from .quantizers.base import Losses


@dataclass
class CodePosterior:
    """Posterior q(k|x) of a vector-quantised autoencoder, which puts all probability on one code at each position.

    Attributes:
        quantized: the selected codes as latents, (B, C, h, w).
        indices: (B, h, w), or (B, h, w, codes_per_position) if there are several.
        nats_per_position: KL of q from the uniform prior over the codes of a position.
    """

    quantized: torch.Tensor
    indices: torch.Tensor
    nats_per_position: float

    def sample(self, generator: Generators = None) -> torch.Tensor:
        """The quantised latents; q is deterministic."""
        return self.quantized

    def mode(self) -> torch.Tensor:
        """The quantised latents."""
        return self.quantized

    def kl_per_dimension(self) -> torch.Tensor:
        """KL(q || uniform) at every position, (B, h, w) nats; log K per code, whatever the image."""
        return self.quantized.new_full(self.indices.shape[:3], self.nats_per_position, dtype=torch.float32)

    def kl(self) -> torch.Tensor:
        """KL(q || uniform) per image, (B,) nats: h * w * log K with one code per position."""
        return self.kl_per_dimension().flatten(1).sum(1)


class VQVAE(EncoderDecoder):
    """VQ-VAE with p(x, k) = K^-positions p(x|k) and a posterior certain of the code nearest to the encoder's output.

    The encoder outputs the latents (B, C, h, w) to be quantised; see `EncoderDecoder`.

    Args:
        quantizer: quantiser of latents with C channels.
        parts: the arguments of `EncoderDecoder`.
    """

    def __init__(self, *, quantizer: Quantizer, **parts: Any) -> None:
        super().__init__(**parts)
        self.quantizer = quantizer

    def posterior(self, x: torch.Tensor) -> CodePosterior:
        """q(k|x) for images (B, C, H, W), without updating the codebook's statistics."""
        quantized, indices, _ = self.quantizer(self.encoder_output(x), update=False)
        return CodePosterior(quantized, indices, self.quantizer.nats_per_position)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, CodePosterior, Losses]:
        """Training pass: encode, quantise, decode; in training mode the codebook's statistics are updated.

        Args:
            x: images (B, C, H, W) in [-1, 1].

        Returns:
            The parameters of p(x|k), cropped to the image; q(k|x); and the quantiser's losses by name.
        """
        quantized, indices, losses = self.quantizer(self.encoder_output(x))
        posterior = CodePosterior(quantized, indices, self.quantizer.nats_per_position)
        return self.decoder_output(quantized, x.shape[-2:]), posterior, losses
