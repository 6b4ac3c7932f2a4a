"""The variational autoencoder of Kingma & Welling 2013, "Auto-Encoding Variational Bayes"."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .likelihoods import Likelihood
from .networks import pad_to_multiple
from .posteriors import DiagonalGaussian, standard_normal


class VAE(nn.Module):
    """p(x, z) = N(z; 0, I) p(x|z) with the approximate posterior q(z|x) = N(mu(x), diag sigma^2(x)).

    Args:
        encoder: images (B, C, H, W) in [-1, 1] -> (B, 2D) or (B, 2D, h, w), means and log-variances.
        decoder: latents (B, D) or (B, D, h, w) -> parameters of the likelihood (B, C * k, H, W).
        likelihood: p(x|z).
        quant_conv: applied to the encoder's output (the 1x1 convolution of `AutoencoderKL`).
        post_quant_conv: applied to the latent before the decoder.
        downsampling_factor: images whose sides are not multiples of it are padded by their last row and column before
            the encoder, and the decoder's output is cropped to the image.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        quant_conv: nn.Module | None = None,
        post_quant_conv: nn.Module | None = None,
        downsampling_factor: int = 1,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.quant_conv = quant_conv
        self.post_quant_conv = post_quant_conv
        self.downsampling_factor = downsampling_factor

    def posterior(self, x: torch.Tensor) -> DiagonalGaussian:
        """q(z|x) for images (B, C, H, W)."""
        parameters = self.encoder(pad_to_multiple(x, self.downsampling_factor))
        if self.quant_conv is not None:
            parameters = self.quant_conv(parameters)
        return DiagonalGaussian.from_parameters(parameters, dtype=x.dtype)

    def decoder_output(self, z: torch.Tensor, image_size: Sequence[int] | None = None) -> torch.Tensor:
        """Parameters of p(x|z), (B, C * k, H, W), cropped to `image_size` (height, width) where that is given."""
        if self.post_quant_conv is not None:
            z = self.post_quant_conv(z)
        output = self.decoder(z)
        return output if image_size is None else output[..., : image_size[0], : image_size[1]]

    def forward(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> tuple[torch.Tensor, DiagonalGaussian]:
        """The pass of training: encode, z = mu + sigma * noise, decode.

        Args:
            x: images (B, C, H, W) in [-1, 1].
            noise: standard normal, the shape of the latents; drawn when not given.

        Returns:
            The parameters of p(x|z), cropped to the image, and q(z|x).
        """
        posterior = self.posterior(x)
        if noise is None:
            noise = standard_normal(posterior.mean.shape, device=x.device)
        return self.decoder_output(posterior.rsample(noise).to(x.dtype), x.shape[-2:]), posterior
