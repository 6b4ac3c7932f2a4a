"""`AutoencoderTinyFlux2`: the tiny autoencoder of FLUX.2's latents, which diffusers' `AutoencoderTiny` cannot hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import (
    AutoencoderMixin,
    DecoderOutput,
    DecoderTiny,
    EncoderTiny,
    IdentityDistribution,
)
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

from .storage import SafeStorage

NORM_GROUPS = 4
BATCH_NORM_EPS = 1e-5
PATCH_SIZE = (2, 2)  # of FLUX.2's pipelines


class PooledBlock(AutoencoderTinyBlock):
    """A block of TAESD behind a bottleneck whose group norm sees the whole picture."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, "relu")
        wide = 4 * channels
        self.pool = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.GroupNorm(NORM_GROUPS, wide),
            nn.ReLU(),
            nn.Conv2d(wide, channels, 1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features of the shape of x."""
        return super().forward(x + self.pool(x))


@dataclass
class AutoencoderTinyFlux2Output(BaseOutput):
    """What `AutoencoderTinyFlux2.encode` returns.

    Attributes:
        latents: (B, latent_channels, h, w).
        latent_dist: the same, for pipelines: its `sample(generator)` and `mode()` are the latents.
    """

    latents: torch.Tensor
    latent_dist: IdentityDistribution


class AutoencoderTinyFlux2(SafeStorage, ModelMixin, AutoencoderMixin, ConfigMixin):
    r"""The tiny autoencoder of FLUX.2's latents (TAEF2 of https://github.com/madebyollin/taesd).

    It takes the place of `AutoencoderKLFlux2` in pipelines: it has the batch norm whose statistics they read, and they
    patchify its latents. TAEF2's latents are those that FLUX.2's transformer sees, before they are patchified and
    after the batch norm of FLUX.2's own autoencoder (that is how its author runs it: taesd, issue 35). So nothing is
    left to normalise, and the batch norm of a new model does nothing. `load_autoencoder(FOLDER).model` has the weights
    of TAEF2's two files.

    The layers are those of `AutoencoderTiny`, but for `PooledBlock` in the coarsest level, whose group norm depends on
    all of the picture: hence there is no tiling.

    Args:
        in_channels: channels of the image.
        out_channels: likewise of the reconstruction.
        block_out_channels: channels of each level, the same in all; the spatial compression ratio is 2^(levels - 1).
        layers_per_block: blocks of each level, but for the one at the resolution of the image, which has one.
        latent_channels: C of the latents (B, C, h, w).
        batch_norm_eps: pipelines add it to the running variance.
        patch_size: of the pipelines, (2, 2).

    Raises:
        ValueError: for a combination that cannot work.
    """

    _supports_gradient_checkpointing = True

    config: Any
    register_to_config: Callable[..., None]

    @register_to_config  # type: ignore[misc]
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        block_out_channels: tuple[int, ...] = (64, 64, 64, 64),
        layers_per_block: int = 3,
        latent_channels: int = 32,
        batch_norm_eps: float = BATCH_NORM_EPS,
        patch_size: tuple[int, int] = PATCH_SIZE,
    ) -> None:
        super().__init__()
        if len(set(block_out_channels)) != 1:
            raise ValueError(f"block_out_channels is {block_out_channels}: every level has the same number.")
        if tuple(patch_size) != PATCH_SIZE:
            raise ValueError(f"patch_size is {patch_size}: the pipelines of FLUX.2 have 2 x 2 patches.")
        deeper = (layers_per_block,) * (len(block_out_channels) - 1)
        self.encoder = EncoderTiny(in_channels, latent_channels, (1, *deeper), block_out_channels, "relu")
        self.decoder = DecoderTiny(
            latent_channels, out_channels, (*deeper, 1), block_out_channels, 2, "relu", "nearest"
        )
        for layers, coarsest in (
            (self.encoder.layers, range(-1 - layers_per_block, -1)),
            (self.decoder.layers, range(2, 2 + layers_per_block)),
        ):
            for i in coarsest if deeper else ():
                layers[i] = PooledBlock(block_out_channels[-1])
        self.bn = nn.BatchNorm2d(4 * latent_channels, eps=batch_norm_eps, affine=False)
        self.bn.register_buffer("running_var", torch.full((4 * latent_channels,), 1 - batch_norm_eps))
        self.use_slicing = False

    @apply_forward_hook
    def encode(self, x: torch.Tensor, return_dict: bool = True) -> AutoencoderTinyFlux2Output | tuple[torch.Tensor]:
        """Latents (B, latent_channels, h, w) of images (B, C, H, W) in [-1, 1].

        Returns:
            `AutoencoderTinyFlux2Output`, or a tuple of the latents.
        """
        z = torch.cat([self.encoder(part) for part in self._slices(x)])
        return AutoencoderTinyFlux2Output(z, IdentityDistribution(z)) if return_dict else (z,)

    @apply_forward_hook
    def decode(
        self, z: torch.Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple[torch.Tensor]:
        """Images (B, C, h * f, w * f) in about [-1, 1] of latents; `generator` is ignored, pipelines pass it."""
        sample = torch.cat([self.decoder(part) for part in self._slices(z)])
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(
        self,
        sample: torch.Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput | tuple[torch.Tensor]:
        """Reconstruction of images in [-1, 1]; there is nothing to sample."""
        return self.decode(self.encode(sample).latents, return_dict)

    def _slices(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return batch.split(1) if self.use_slicing else (batch,)
