"""`AutoencoderTiny`: TAESD and its kin, which encode and decode the latents of a larger autoencoder."""

from __future__ import annotations

from ..deterministic import DeterministicAdapter


class TinyAdapter(DeterministicAdapter):
    """A deterministic autoencoder that is distilled from a teacher."""

    class_name = "AutoencoderTiny"
    kind = "tiny"
    can_distill = True
    has_taesd_files = True
    latents_expression = ".latents"
    papers = ()  # it has none

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels of the image per position of the latent grid, along one side."""
        return 2 ** (len(self.config.encoder_block_out_channels) - 1)

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the activations of the decoder."""
        super().enable_gradient_checkpointing()
        # With it, diffusers' `EncoderTiny` forgets to scale images from [-1, 1] to [0, 1].
        self.model.encoder.gradient_checkpointing = False
