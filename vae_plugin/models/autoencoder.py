"""Encoder, decoder and likelihood, shared by the Gaussian and the vector-quantised autoencoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..arguments import Tensor, check
from .likelihoods import Likelihood
from .networks import pad_to_multiple

IMAGES = Tensor("B C H W")


class EncoderDecoder(nn.Module):
    """Base class with an encoder, a decoder and a likelihood of images.

    Args:
        encoder: images (B, C, H, W) in [-1, 1] -> parameters of the posterior.
        decoder: latents (B, D) or (B, D, h, w) -> parameters of the likelihood (B, C * k, H, W).
        likelihood: p(x|z).
        quant_conv: layer applied to the encoder's output, such as the 1x1 convolution of `AutoencoderKL`.
        post_quant_conv: layer applied to the latents before the decoder.
        spatial_compression_ratio: pixels per position of the latent grid, along one side. Images whose sides are not
            multiples of it are padded with their last row and column before encoding, and the decoder's output is
            cropped to the size of the image.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        quant_conv: nn.Module | None = None,
        post_quant_conv: nn.Module | None = None,
        spatial_compression_ratio: int = 1,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self._modules["likelihood"] = likelihood
        self.quant_conv = quant_conv
        self.post_quant_conv = post_quant_conv
        self.spatial_compression_ratio = spatial_compression_ratio

    @property
    def likelihood(self) -> Likelihood:
        """p(x|z)."""
        # A property, because a subclass may have a config field of this name, which would hide a submodule.
        likelihood = self._modules["likelihood"]
        assert isinstance(likelihood, Likelihood)
        return likelihood

    def encoder_output(self, x: torch.Tensor) -> torch.Tensor:
        """Encoder output for images (B, C, H, W), padded to multiples of the spatial compression ratio."""
        if not torch.compiler.is_compiling():
            check({"x": IMAGES}, {"x": x})
        output = self.encoder(self._padded(x))
        return output if self.quant_conv is None else self.quant_conv(output)

    def decoder_output(self, z: torch.Tensor, image_size: Sequence[int] | None = None) -> torch.Tensor:
        """Parameters of p(x|z), (B, C * k, H, W), cropped to `image_size` (height, width) if that is given."""
        if self.post_quant_conv is not None:
            z = self.post_quant_conv(z)
        output = self.decoder(z)
        return output if image_size is None else output[..., : image_size[0], : image_size[1]]

    def _padded(self, x: torch.Tensor) -> torch.Tensor:
        return pad_to_multiple(x, self.spatial_compression_ratio)
