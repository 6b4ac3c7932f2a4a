"""The common part of our two classes as diffusers sees them: sizes, slicing, tiling, reconstruction."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput
from diffusers.models.modeling_utils import ModelMixin

from ..arguments import Tensor, check
from ..models.autoencoder import EncoderDecoder
from ..models.likelihoods import Bernoulli, DiscretizedLogisticMixture, Gaussian, Laplace, Likelihood, ScaleSetting
from ..notices import say_once
from .storage import SafeStorage

_log = logging.getLogger(ModelMixin.__module__)
FLOATING = Tensor()
LIKELIHOODS = ("gaussian", "bernoulli", "laplace", "logistic_mixture")
MIN_TILE_LATENTS = 64


def make_likelihood(name: str, sigma: ScaleSetting, num_mixtures: int) -> Likelihood:
    """Make the likelihood of that name.

    Raises:
        ValueError: for an unknown name.
    """
    if name == "gaussian":
        return Gaussian(sigma)
    if name == "laplace":
        return Laplace(sigma)
    if name == "bernoulli":
        return Bernoulli()
    if name == "logistic_mixture":
        return DiscretizedLogisticMixture(num_mixtures)
    raise ValueError(f"likelihood is {name!r}: it must be one of {', '.join(LIKELIHOODS)}.")


def check_norm_groups(sample_size: tuple[int, int], block_out_channels: tuple[int, ...], norm_num_groups: int) -> None:
    """Reject a convolutional model whose innermost norm would always be zero.

    Raises:
        ValueError: if the latents are 1x1 and the groups have one channel.
    """
    if max(sample_size) <= 2 ** (len(block_out_channels) - 1) and block_out_channels[-1] == norm_num_groups:
        raise ValueError(
            f"sample_size {sample_size} leaves 1x1 latents, where a group norm of one channel per group is "
            f"always zero: give norm_num_groups below {block_out_channels[-1]}."
        )


def check_config(
    in_channels: int,
    out_channels: int | None,
    block_out_channels: tuple[int, ...],
    encoder_block_out_channels: tuple[int, ...] | None,
    shift_factor: float | None,
) -> None:
    """Reject fields that no pipeline could use.

    Raises:
        ValueError: naming the field, and what to do.
    """
    if out_channels not in (None, in_channels):
        raise ValueError(
            f"out_channels is {out_channels}: a likelihood of the image needs in_channels ({in_channels})."
        )
    if shift_factor is None:
        raise ValueError("shift_factor is None: give a number, 0.0 for none (SD3 and Flux pipelines subtract it).")
    if encoder_block_out_channels is not None and list(encoder_block_out_channels) != list(block_out_channels):
        raise ValueError("encoder_block_out_channels is another name of block_out_channels: leave it out.")


def note_equal_channels(in_channels: int, latent_channels: int) -> None:
    """Say what pipelines do with a model whose latents have as many channels as its images."""
    if in_channels == latent_channels:
        say_once(
            "equal channels",
            f"this model has {latent_channels} channels in its latents and in its images: image-to-image pipelines of "
            "SD3 and Flux take any image for latents, skip `encode` and give a picture of the wrong size. Use another "
            "latent_channels for them.",
        )


def check_block_types(expected: Mapping[str, Sequence[str] | None], **given: Sequence[str] | None) -> None:
    """Reject block types that the model does not have.

    Raises:
        ValueError: naming the field, and what to do.
    """
    for name, blocks in given.items():
        if blocks is not None and list(blocks) != list(expected.get(name) or ()):
            raise ValueError(
                f"{name} is {', '.join(map(str, blocks))}: it follows from the other fields, leave it out."
            )


def height_and_width(sample_size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width that the `sample_size` of a config stands for."""
    height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    return height, width


def like(new: Any, model: torch.nn.Module) -> Any:
    """Move `new` to the device, precision and mode of `model`."""
    new = new.to(model.device)
    return (new if model.dtype == torch.float32 else new.to(model.dtype)).train(model.training)


def _says_no_cast(record: logging.LogRecord) -> bool:
    return "should be kept in float32" not in str(record.msg)


class AutoencoderBase(SafeStorage, EncoderDecoder, AutoencoderMixin):
    """The base of `AutoencoderVAE` and `AutoencoderVQVAE`."""

    config: Any
    device: torch.device
    dtype: torch.dtype
    register_to_config: Callable[..., None]
    encode: Callable[..., Any]
    decode: Callable[..., Any]

    # Methods of diffusers, which need only encoder, decoder, the 1x1 convolutions and the tile sizes.
    blend_v = AutoencoderKL.blend_v
    blend_h = AutoencoderKL.blend_h
    _tiled_encode = AutoencoderKL._tiled_encode
    tiled_decode = AutoencoderKL.tiled_decode
    set_default_attn_processor = AutoencoderKL.set_default_attn_processor
    fuse_qkv_projections = AutoencoderKL.fuse_qkv_projections  # `AttentionMixin`'s knows other attention blocks only
    unfuse_qkv_projections = AutoencoderKL.unfuse_qkv_projections
    original_attn_processors = None

    @wraps(ModelMixin.to)
    def to(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """As of diffusers, without its warning at every cast: what has to stay in float32 does so by itself."""
        inherited: Any = super()
        _log.addFilter(_says_no_cast)
        try:
            return inherited.to(*args, **kwargs)
        finally:
            _log.removeFilter(_says_no_cast)

    def _init_tiles(self) -> None:
        self.use_slicing = False
        self.use_tiling = False
        ratio = self.spatial_compression_ratio
        self.tile_latent_min_size = max(max(self._sample_hw) // ratio, MIN_TILE_LATENTS)
        self.tile_sample_min_size = self.tile_latent_min_size * ratio
        self.tile_overlap_factor = 0.25

    @property
    def _sample_hw(self) -> tuple[int, int]:
        return height_and_width(self.config.sample_size)

    @property
    def _input_device(self) -> torch.device:
        """The device to make a latent on: sequential offloading leaves weights on `meta`, and its hooks move inputs."""
        return torch.device("cpu") if self.device.type == "meta" else self.device

    @property
    def _latent_channels(self) -> int:
        return self.config.latent_channels

    def latent_shape(self, batch_size: int, height: int | None = None, width: int | None = None) -> tuple[int, ...]:
        """Shape of the latents of `batch_size` images of that size (default: `sample_size`)."""
        height, width = height or self._sample_hw[0], width or self._sample_hw[1]
        ratio = self.spatial_compression_ratio
        return (batch_size, self._latent_channels, math.ceil(height / ratio), math.ceil(width / ratio))

    def _check_tensor(self, name: str, value: torch.Tensor, channels: int) -> None:
        """Reject what the first layer could not take.

        Raises:
            ValueError: naming what was given, and what to do.
        """
        compiling = torch.compiler.is_compiling()
        if not compiling:
            check({name: FLOATING}, {name: value})
        if value.ndim != 4 or value.shape[1] != channels:
            raise ValueError(f"got {name} of shape {tuple(value.shape)}: expected (batch, {channels}, height, width).")
        if compiling:
            return
        if 0 in value.shape:
            raise ValueError(f"got {name} of shape {tuple(value.shape)}: no side of them may be 0.")
        if value.dtype != self.dtype and not torch.is_autocast_enabled(value.device.type):
            raise ValueError(
                f"got {name} of {value.dtype}, and the model is of {self.dtype}: convert one by .to(dtype)."
            )

    def _check_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        per_channel = Tensor(str(self._latent_channels))
        check({"mean": per_channel, "std": per_channel}, {"mean": mean, "std": std})

    def _check_images(self, x: torch.Tensor) -> None:
        self._check_tensor("images", x, self.config.in_channels)

    def _check_latents(self, z: torch.Tensor) -> None:
        self._check_tensor("latents", z, self._latent_channels)

    def encoder_output(self, x: torch.Tensor) -> torch.Tensor:
        """The encoder's output for images (B, C, H, W) in [-1, 1]."""
        self._check_images(x)
        return super().encoder_output(x)

    def _encode(self, x: torch.Tensor) -> torch.Tensor:
        """`encoder_output`, with slicing and tiling where they are enabled."""
        self._check_images(x)
        slices = x.split(1) if self.use_slicing else (x,)
        return torch.cat([self._encode_slice(s) for s in slices])

    def _encode_slice(self, x: torch.Tensor) -> torch.Tensor:
        if self.use_tiling and max(x.shape[-2:]) > self.tile_sample_min_size:
            return self._tiled_encode(self._padded(x))
        return self.encoder_output(x)

    def _decode(self, z: torch.Tensor) -> torch.Tensor:
        """E[x|z], with slicing and tiling where they are enabled."""
        slices = z.split(1) if self.use_slicing else (z,)
        return torch.cat([self.likelihood.mean(self._decode_slice(s)) for s in slices])

    def _decode_slice(self, z: torch.Tensor) -> torch.Tensor:
        if self.use_tiling and max(z.shape[-2:]) > self.tile_latent_min_size:
            return self.tiled_decode(z, return_dict=False)[0]
        return self.decoder_output(z)

    def forward(
        self,
        sample: torch.Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput | tuple[torch.Tensor]:
        """Reconstruction of images (B, C, H, W), of the same size.

        Args:
            sample: images in [-1, 1].
            sample_posterior: decode a sample of the posterior rather than its mode.
            return_dict: return a `DecoderOutput` rather than a tuple.
            generator: for the sample.
        """
        posterior = self.encode(sample).latent_dist
        z = posterior.sample(generator) if sample_posterior else posterior.mode()
        reconstruction = self.decode(z).sample[..., : sample.shape[-2], : sample.shape[-1]]
        return DecoderOutput(sample=reconstruction) if return_dict else (reconstruction,)
