"""`AutoencoderKLHunyuanImage`: the 2-D autoencoder of HunyuanImage 2.1, of 64 channels at a 32nd of the resolution."""

from __future__ import annotations

import math

from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ...errors import UserError
from ..adapter import Adapter


class HunyuanImageAdapter(Adapter):
    """An `AutoencoderKL` whose config says its ratio, and whose pipeline reads the `scaling_factor` alone."""

    class_name = "AutoencoderKLHunyuanImage"
    papers = ()  # it has none of its own

    def __init__(self, model: ModelMixin) -> None:
        super().__init__(model)
        said, levels = self.config.spatial_compression_ratio, len(self.config.block_out_channels)
        reduces = 2 ** min(math.ceil(math.log2(max(said, 1))), levels - 1)  # diffusers builds no more levels that do
        if said != reduces:
            raise UserError(
                f"this AutoencoderKLHunyuanImage says that its spatial_compression_ratio is {said}, and its network "
                f"has {reduces}: pipelines rely on it, correct its config.json."
            )

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels of the image per position of the latent grid, along one side."""
        return self.config.spatial_compression_ratio

    @property
    def recomputed_blocks(self) -> list[nn.Module]:
        """Each residual block and each change of resolution: the class has diffusers' own way switched off."""
        encoder, decoder = self.model.encoder, self.model.decoder
        return [*encoder.down_blocks, encoder.mid_block, decoder.mid_block, *decoder.up_blocks]
