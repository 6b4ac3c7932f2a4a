"""`AutoencoderKL`: Stable Diffusion, SDXL, SD3, Flux, Z-Image and most others."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL

from ...errors import UserError
from ..adapter import Adapter
from ..folding import fold_factors
from ..padding import padding_mode, set_padding_mode
from ..vae import AutoencoderVAE
from .kl_file import StableDiffusionFile
from .ours import VAEAdapter


class KLAdapter(Adapter):
    """What `Adapter` describes."""

    class_name = "AutoencoderKL"
    single_file = StableDiffusionFile()
    model: AutoencoderKL

    def with_decoder(self, widths: Sequence[int]) -> VAEAdapter:
        """As an `AutoencoderVAE`: the class has one field for the widths of both networks."""
        try:
            with torch.device(self.model.device):  # also where the new decoder is made without memory, to be measured
                same = AutoencoderVAE.from_autoencoder_kl(self.model)
            set_padding_mode(same, padding_mode(self.model))
        except ValueError as error:
            raise UserError(f"--decoder_block_out_channels: {error}") from error
        return VAEAdapter(same).with_decoder(widths)

    def with_factors(self, scaling_factor: float, shift_factor: float) -> KLAdapter:
        """A copy whose latents fit these factors, see `fold_factors`."""
        folded = copy.deepcopy(self.model)
        fold_factors(folded, scaling_factor, shift_factor)
        return KLAdapter(folded)
