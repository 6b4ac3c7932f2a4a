"""`AutoencoderRAE`: a frozen vision model as the encoder, and a decoder of transformer blocks (Zheng et al. 2025)."""

from __future__ import annotations

import math

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ...errors import UserError
from ..deterministic import DeterministicAdapter
from ..papers import REPRESENTATION_AUTOENCODER
from ..passes import DeterministicPosterior, TrainingPass, evaluation_mode


class RAEAdapter(DeterministicAdapter):
    """An autoencoder of which only the decoder is trained, and whose own images are in [0, 1].

    Its `encode` and `decode` apply all statistics of the latents themselves, which belong to the vision model.
    """

    class_name = "AutoencoderRAE"
    parts = ("decoder",)
    unit_range = True
    latents_expression = ".latent"
    channel_fields = ("num_channels",)
    papers = (REPRESENTATION_AUTOENCODER,)

    def __init__(self, model: ModelMixin) -> None:
        super().__init__(model)
        if not self.config.reshape_to_2d or self.config.num_channels != 3:
            raise UserError(
                f"this AutoencoderRAE has num_channels {self.config.num_channels} and reshape_to_2d "
                f"{self.config.reshape_to_2d}: give one with 3 channels, and latents on a grid (reshape_to_2d)."
            )

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        return self.config.num_channels

    @property
    def fixed_channels_reason(self) -> str | None:
        """The vision model is of colours."""
        return "its encoder is a vision model of three channels"

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return self.config.encoder_hidden_size

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels of the image per position of the latent grid, along one side."""
        return self.config.patch_size

    @property
    def natural_resolution(self) -> int:
        """Side of the images that the decoder makes, in pixels."""
        return self.config.patch_size * (self.config.encoder_input_size // self.config.encoder_patch_size)

    @property
    def only_image_size(self) -> tuple[int, int] | None:
        """The size of the decoder's images: its positions are fixed."""
        return self.natural_resolution, self.natural_resolution

    def check_image_size(self, height: int, width: int, what: str) -> None:
        """Refuse images of any other size, which the error calls `what`."""
        if (height, width) != self.only_image_size:
            side = self.natural_resolution
            raise UserError(
                f"{what}: this AutoencoderRAE takes images of {side} x {side} pixels only, not of {height} x {width}."
            )

    def noise_shape(self, batch_size: int, height: int, width: int) -> tuple[int, ...]:
        """One number for the latents each, and one for the strength of the noise on them."""
        return (batch_size, 1 + math.prod(self.latent_shape(1, height, width)))

    def posterior(self, x: torch.Tensor) -> DeterministicPosterior:
        """The latents, without the noise that `encode` draws in training mode."""
        height, width = x.shape[-2:]
        self.check_image_size(height, width, "the images")  # `encode` would stretch them
        with evaluation_mode(self.model):
            return DeterministicPosterior(self.model.encode((x + 1) / 2)[0])

    def decode(self, z: torch.Tensor, image_size: tuple[int, ...] | None = None) -> torch.Tensor:
        """Images of latents."""
        return super().decode(z, image_size) * 2 - 1

    def training_pass(self, x: torch.Tensor, noise: torch.Tensor) -> TrainingPass:
        """Encode; decode latents with noise of a strength between 0 and `noise_tau`, as the class has it in training.

        Args:
            x: images.
            noise: standard normal, of `noise_shape`. The first number of each image gives the strength: its place in
                the normal distribution is uniform.
        """
        z = self.latents(x)
        strength = self.config.noise_tau * torch.special.ndtr(noise[:, :1])
        tokens = (strength * noise[:, 1:]).view_as(z)  # noise on what the vision model gives, before it is scaled
        noisy = z + tokens.to(z.dtype) * self.config.scaling_factor / (self.model._latents_std.to(z) + 1e-5)
        return TrainingPass(self.decode_unclamped(noisy, x.shape[-2:]), z)

    def write_latent_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Nothing: they are those of the vision model."""

    def latent_scaling(self) -> dict[str, object]:
        """Nothing: pipelines take the latents as they are."""
        return {}

    def pipeline_latents(self, z: torch.Tensor) -> torch.Tensor:
        """The latents themselves."""
        return z

    @property
    def recomputed_blocks(self) -> list[nn.Module]:
        """The decoder's layers; nothing in the encoder has a gradient."""
        return list(self.model.decoder.decoder_layers)

    @property
    def onnx_refusal(self) -> str | None:
        """The decoder has one size, and ONNX files are for any."""
        return "its decoder makes images of one size, and these files are for any"
