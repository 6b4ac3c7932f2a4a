"""Tiny autoencoders, which encode and decode the latents of a larger one: TAESD and its kin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from diffusers import AutoencoderTiny
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from torch import nn

from ..adapter import Adapter
from ..deterministic import DeterministicAdapter
from ..tiny_flux2 import AutoencoderTinyFlux2
from .patched_norm import PatchedNorm

LEVELS = (64, 64, 64, 64)  # of TAESD's code


class TinyAdapter(DeterministicAdapter):
    """`AutoencoderTiny`, a deterministic autoencoder that is distilled from a teacher."""

    class_name = "AutoencoderTiny"
    kind = "tiny"
    can_distill = True
    taesd_architecture: ClassVar[Mapping[str, Any]] = {
        "in_channels": 3,
        "out_channels": 3,
        "encoder_block_out_channels": LEVELS,
        "decoder_block_out_channels": LEVELS,
        "num_encoder_blocks": (1, 3, 3, 3),
        "num_decoder_blocks": (3, 3, 3, 1),
        "act_fn": "relu",
        "upsample_fn": "nearest",
        "upsampling_scaling_factor": 2,
    }
    latents_expression = ".latents"
    papers = ()  # it has none

    @classmethod
    def untrained(cls, in_channels: int, latent_channels: int, widths: Sequence[int]) -> ModelMixin:
        """A model with random weights and TAESD's blocks: one at the image's resolution, three at each level below.

        Args:
            in_channels: channels of the images.
            latent_channels: channels of the latents.
            widths: channels of each level, all the same.
        """
        deeper = len(widths) - 1
        return AutoencoderTiny(
            in_channels=in_channels,
            out_channels=in_channels,
            encoder_block_out_channels=tuple(widths),
            decoder_block_out_channels=tuple(widths),
            latent_channels=latent_channels,
            num_encoder_blocks=(1,) + (3,) * deeper,
            num_decoder_blocks=(3,) * deeper + (1,),
        )

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels of the image per position of the latent grid, along one side."""
        return 2 ** (len(self.config.encoder_block_out_channels) - 1)

    @property
    def recomputed_blocks(self) -> list[nn.Module]:
        """Every block: diffusers recomputes encoder and decoder as wholes, and the images of the encoder unscaled."""
        return [module for module in self.model.modules() if isinstance(module, AutoencoderTinyBlock)]


class TinyFlux2Adapter(PatchedNorm, TinyAdapter):
    """Our `AutoencoderTinyFlux2`."""

    class_name = "AutoencoderTinyFlux2"
    remote_code = True
    student_class = "AutoencoderTinyFlux2"
    taesd_architecture: ClassVar[Mapping[str, Any]] = {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": LEVELS,
        "layers_per_block": 3,
    }

    @classmethod
    def model_class(cls) -> type[ModelMixin]:
        """Our own class."""
        return AutoencoderTinyFlux2

    @classmethod
    def untrained(cls, in_channels: int, latent_channels: int, widths: Sequence[int]) -> ModelMixin:
        """A model with random weights and the blocks of TAEF2; the arguments are those of `TinyAdapter.untrained`."""
        return AutoencoderTinyFlux2(
            in_channels=in_channels,
            out_channels=in_channels,
            block_out_channels=tuple(widths),
            latent_channels=latent_channels,
        )

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels of the image per position of the latent grid, along one side."""
        return 2 ** (len(self.config.block_out_channels) - 1)

    def to_diffusers(self) -> ModelMixin:
        """Refused: diffusers lacks the class.

        Raises:
            ValueError: always.
        """
        raise ValueError("none has the group norms of its coarsest blocks. Export it as taesd or remote_code.")


def new_student(teacher: Adapter | None, in_channels: int, latent_channels: int, widths: Sequence[int]) -> ModelMixin:
    """An untrained model of the class that pipelines take in the place of the teacher, or an `AutoencoderTiny`.

    The other arguments are those of `TinyAdapter.untrained`.
    """
    name = TinyAdapter.class_name if teacher is None else teacher.student_class
    family = next(family for family in (TinyAdapter, TinyFlux2Adapter) if family.class_name == name)
    return family.untrained(in_channels, latent_channels, widths)
