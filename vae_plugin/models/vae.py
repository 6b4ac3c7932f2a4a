"""The variational autoencoder of Kingma & Welling 2013, "Auto-Encoding Variational Bayes"."""

from __future__ import annotations

import torch

from .autoencoder import EncoderDecoder
from .posteriors import DiagonalGaussian, standard_normal


class VAE(EncoderDecoder):
    """VAE with p(x, z) = N(z; 0, I) p(x|z) and the approximate posterior q(z|x) = N(mu(x), diag sigma^2(x)).

    The encoder outputs means and log-variances, (B, 2D) or (B, 2D, h, w); see `EncoderDecoder`.
    """

    def posterior(self, x: torch.Tensor) -> DiagonalGaussian:
        """q(z|x) for images (B, C, H, W)."""
        return DiagonalGaussian.from_parameters(self.encoder_output(x), dtype=x.dtype)

    def forward(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> tuple[torch.Tensor, DiagonalGaussian]:
        """Training pass: encode, reparameterise z = mu + sigma * noise, decode.

        Args:
            x: images (B, C, H, W) in [-1, 1].
            noise: standard normal noise of the latents' shape; drawn if not given.

        Returns:
            The parameters of p(x|z), cropped to the image, and q(z|x).
        """
        posterior = self.posterior(x)
        if noise is None:
            noise = standard_normal(posterior.mean.shape, device=x.device)
        return self.decoder_output(posterior.rsample(noise).to(x.dtype), x.shape[-2:]), posterior
