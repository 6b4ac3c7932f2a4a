"""What causal autoencoders of videos have in common where image pipelines use them with one frame."""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ...models.networks import cropped
from ..adapter import Adapter
from ..channels import replace_image_convolutions
from ..one_frame import OneFrame
from ..padding import cannot_pad
from ..scaling import channel_fields


class CausalAdapter(Adapter):
    """A causal autoencoder, which runs and is trained in its one-frame form, and is saved whole.

    The model that is given is not changed. Images and latents may have an axis of time with one frame, as those of
    pipelines do.
    """

    has_frames = True
    model: OneFrame

    def __init__(self, model: ModelMixin) -> None:
        self._stand_for(model)

    def _stand_for(self, whole: ModelMixin) -> None:
        self._whole = _Whole(whole)
        super().__init__(OneFrame(whole))

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        return self.config[self.channel_fields[0]] // self.model.patch_size**2

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return self.config.z_dim

    @property
    def num_parameters(self) -> int:
        """How many weights are saved."""
        return sum(p.numel() for p in self._whole.model.parameters())

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels of the image per position of the latent grid, along one side."""
        return self.model.patch_size * 2 ** (len(self.config.dim_mult) - 1)

    def decode_unclamped(self, z: torch.Tensor, image_size: tuple[int, ...] | None = None) -> torch.Tensor:
        """Images of latents as the decoder gives them: the clamp of `decode` has no gradient outside [-1, 1]."""
        return cropped(self.model.unclamped(z), image_size)

    @property
    def recomputed_blocks(self) -> list[nn.Module]:
        """The residual blocks, attention, and what changes the resolution."""
        parts = ("conv2", "to_qkv", "resample")
        return [m for m in self.model.modules() if any(hasattr(m, part) for part in parts)]

    def set_padding_mode(self, mode: str) -> None:
        """Refused: its own convolutions pad by zeros in their code, which no user of diffusers could change."""
        if mode != "zeros":
            reason = "its causal convolutions pad by zeros in their own code, and a pipeline would decode other borders"
            raise cannot_pad(self.class_name, mode, reason)

    @property
    def fixed_channels_reason(self) -> str | None:
        """Patches of pixels have no channels of the image's own."""
        side = self.model.patch_size
        return f"its convolutions read and write patches of {side}x{side} pixels" if side > 1 else None

    def replace_image_convolutions(self, before: int, channels: int) -> bool:
        """As of other classes, in the whole model."""
        whole: Any = self.to_saved()
        done = replace_image_convolutions(whole.encoder, whole.decoder, before, channels)
        if done:
            self._stand_for(whole)
        return done

    def write_latent_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Set `latents_mean` and `latents_std`, one of each for every channel."""
        self.model.register_to_config(**channel_fields(mean, std))

    @property
    def standardizes_channels(self) -> bool:
        """Each channel has a mean and a standard deviation of its own."""
        return True

    def to_diffusers(self) -> ModelMixin:
        """The whole model."""
        return self.to_saved()

    def to_saved(self) -> ModelMixin:
        """A copy of the model that was given, with the weights of the one-frame form."""
        whole = copy.deepcopy(self._whole.model)
        if whole.dtype != self.model.dtype:
            whole = whole.to(self.model.dtype)
        self.model.write(whole)
        return whole


class _Whole:
    """The model that was given. It is read only, so copies of an adapter share it."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __deepcopy__(self, memo: dict) -> _Whole:
        return self
