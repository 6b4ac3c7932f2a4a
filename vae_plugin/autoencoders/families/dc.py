"""`AutoencoderDC`: the deep compression autoencoder of Sana (Chen et al. 2024)."""

from __future__ import annotations

from torch import nn

from ..deterministic import DeterministicAdapter
from ..papers import DEEP_COMPRESSION


class DCAdapter(DeterministicAdapter):
    """A deterministic autoencoder that knows its own ratio."""

    class_name = "AutoencoderDC"
    latents_expression = ".latent"
    papers = (DEEP_COMPRESSION,)

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels of the image per position of the latent grid, along one side."""
        return self.model.spatial_compression_ratio

    @property
    def recomputed_blocks(self) -> list[nn.Module]:
        """Each block of each level; diffusers has no gradient checkpointing for the class."""
        levels = (*self.model.encoder.down_blocks, *self.model.decoder.up_blocks)
        return [block for level in levels for block in level]
