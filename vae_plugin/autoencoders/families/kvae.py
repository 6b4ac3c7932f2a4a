"""`AutoencoderKLKVAE`: the 2-D autoencoder of Kandinsky, whose decoder looks at the latents in every norm."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin

from ...errors import UserError
from ...json_types import fits
from ...wording import shown
from ..adapter import Adapter
from ..scaling import channel_fields, scaled, scaling_fields


class KVAEAdapter(Adapter):
    """An `AutoencoderKL` without fields for the statistics of its latents.

    No pipeline of diffusers has it yet. The mean and standard deviation of each channel stand in its config as
    `_latents_mean` and `_latents_std`: diffusers keeps names that begin with an underscore, and warns of others.
    """

    class_name = "AutoencoderKLKVAE"
    papers = ()  # it has none

    def __init__(self, model: ModelMixin) -> None:
        super().__init__(model)
        if not self.config.double_z:
            raise UserError(
                "this AutoencoderKLKVAE has no posterior (double_z is false), so that its decoder reads twice the "
                "channels that it encodes: give one with double_z."
            )
        for name, values in self._statistics.items():
            positive = name == "latents_mean" or not any(value <= 0 for value in values if fits(value, float))
            if not (fits(values, list[float]) and len(values) == self.latent_channels and positive):
                raise UserError(
                    f"_{name} of this AutoencoderKLKVAE is {shown(values)}: it must be a list of "
                    f"{self.latent_channels} {'positive ' * (name == 'latents_std')}numbers. Correct it, or remove it."
                )

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return self.config.z_channels

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels of the image per position of the latent grid, along one side."""
        return 2 ** (len(self.config.ch_mult) - 1)

    @property
    def _statistics(self) -> dict[str, Any]:
        return scaling_fields({name: self.config.get(f"_{name}") for name in ("latents_mean", "latents_std")})

    def pipeline_latents(self, z: torch.Tensor) -> torch.Tensor:
        """The latents with mean 0 and variance 1 by channel, if the config has their statistics."""
        return scaled(self._statistics, z)

    def latent_scaling(self) -> dict[str, Any]:
        """The statistics in the config, if it has them."""
        return {f"_{name}": values for name, values in self._statistics.items()}

    def write_latent_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Write the statistics of each channel into the config."""
        self.model.register_to_config(**{f"_{name}": values for name, values in channel_fields(mean, std).items()})
