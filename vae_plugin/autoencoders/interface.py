"""Every 2-D image autoencoder, ours and diffusers' own, through the same few functions.

diffusers' classes share no base: what `encode` returns has four names, the down-sampling factor has to be counted, and
`forward` is not what training needs (that of `AutoencoderTiny` rounds the latents to bytes, which has no gradient).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers import (
    AsymmetricAutoencoderKL,
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderTiny,
    VQModel,
)
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ..models.networks import pad_to_multiple
from ..models.posteriors import DiagonalGaussian
from ..models.vqvae import CodePosterior
from .vae import AutoencoderVAE
from .vqvae import AutoencoderVQVAE

OURS = (AutoencoderVAE, AutoencoderVQVAE)
CONTINUOUS = (AutoencoderKL, AsymmetricAutoencoderKL, AutoencoderKLFlux2, AutoencoderTiny, AutoencoderDC)
DEFAULT_RESOLUTION = 256
CLASSES = {cls.__name__: cls for cls in (*OURS, *CONTINUOUS, VQModel)}


@dataclass
class CertainPosterior:
    """q(z|x) of a deterministic autoencoder: one latent, with certainty.

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

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """The latents: there is nothing to draw."""
        return self.latents


Posterior = DiagonalGaussian | CodePosterior | CertainPosterior


def posterior(model: ModelMixin, x: torch.Tensor) -> Posterior:
    """q(z|x) for images (B, C, H, W) in [-1, 1], padded to a multiple of the down-sampling factor."""
    if isinstance(model, OURS):
        return model.posterior(x)
    encoded = model.encode(pad_to_multiple(x, compression(model)))
    if isinstance(model, AutoencoderDC):
        return CertainPosterior(encoded.latent)
    if isinstance(model, AutoencoderTiny):
        return CertainPosterior(encoded.latents)
    return DiagonalGaussian(encoded.latent_dist.mean, encoded.latent_dist.logvar, dtype=x.dtype)


def decode(
    model: ModelMixin,
    z: torch.Tensor,
    image_size: tuple[int, int] | torch.Size | None = None,
    **conditions: torch.Tensor,
) -> torch.Tensor:
    """Images (B, C, H, W) of latents (B, c, h, w), cropped to `image_size` where that is given.

    Args:
        model: the autoencoder.
        z: latents, unscaled; of a `AutoencoderVQVAE` those of its codes.
        image_size: height and width.
        conditions: `image` and `mask`, of an `AsymmetricAutoencoderKL`.
    """
    images = model.decode(z, **conditions).sample
    return images if image_size is None else images[..., : image_size[0], : image_size[1]]


def reconstruct(model: ModelMixin, x: torch.Tensor) -> torch.Tensor:
    """What the mode of q(z|x) decodes to, the shape of x."""
    return model(x).sample if isinstance(model, OURS) else decode(model, posterior(model, x).mode(), x.shape[-2:])


def compression(model: ModelMixin) -> int:
    """Pixels of the image per place of the latent, along one side."""
    if isinstance(model, (*OURS, AutoencoderDC)):
        return model.spatial_compression_ratio
    config = model.config
    if isinstance(model, AutoencoderTiny):
        return 2 ** (len(config.encoder_block_out_channels) - 1)
    levels = config.down_block_out_channels if isinstance(model, AsymmetricAutoencoderKL) else config.block_out_channels
    return 2 ** (len(levels) - 1)


def natural_resolution(model: ModelMixin) -> int:
    """Side of the images to train and measure on unless another is asked for: the size that one of ours is made for.

    Of another the config says little (32 for Stable Diffusion's first, 1024 for SDXL's): 256, as most were trained on.
    """
    if isinstance(model, OURS) and getattr(model, "saved_as", None) is None:
        size = model.config.sample_size
        return size if isinstance(size, int) else min(size)
    return max(1, DEFAULT_RESOLUTION // compression(model)) * compression(model)


def latent_shape(model: ModelMixin, batch_size: int, height: int, width: int) -> tuple[int, ...]:
    """Shape of the latents of `batch_size` images of that size."""
    if isinstance(model, OURS):
        return model.latent_shape(batch_size, height, width)
    factor = compression(model)
    return (batch_size, model.config.latent_channels, -(-height // factor), -(-width // factor))


def pipeline_latents(model: ModelMixin, z: torch.Tensor) -> torch.Tensor:
    """Latents (B, c, h, w) as a pipeline gives them to its denoiser: shifted and scaled as the config says."""
    config = model.config
    mean, std = config.get("latents_mean"), config.get("latents_std")
    scale = config.get("scaling_factor") or 1.0
    if mean is not None and std is not None:
        mean, std = (torch.tensor(v, dtype=z.dtype, device=z.device).view(1, -1, 1, 1) for v in (mean, std))
        return (z - mean) * scale / std
    return (z - (config.get("shift_factor") or 0.0)) * scale


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
