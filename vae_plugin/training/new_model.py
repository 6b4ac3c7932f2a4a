"""A new model from the settings."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..autoencoders import Adapter, AutoencoderVAE, AutoencoderVQVAE, adapt, new_student
from ..errors import UserError
from ..models.quantizers.settings import CodebookSettings
from ..options import given_in
from .settings import ModelSettings


def new_model(settings: ModelSettings, codebook: CodebookSettings, in_channels: int, resolution: int) -> Adapter:
    """A VAE or VQ-VAE with random weights.

    Raises:
        ValueError: for a combination that cannot work.
    """
    common: dict[str, Any] = {
        "in_channels": in_channels,
        "block_out_channels": settings.block_out_channels,
        "layers_per_block": settings.layers_per_block,
        "latent_channels": settings.latent_channels,
        "norm_num_groups": settings.norm_num_groups,
        "mid_block_add_attention": settings.mid_block_add_attention,
        "sample_size": resolution,
        "likelihood": settings.likelihood,
        "sigma": settings.sigma_setting,
        "num_mixtures": settings.num_mixtures,
    }
    if settings.model_type == "vqvae":
        return adapt(AutoencoderVQVAE(**common, **dataclasses.asdict(codebook)))
    return adapt(
        AutoencoderVAE(
            **common,
            decoder_block_out_channels=settings.decoder_block_out_channels,
            network=settings.network,
            hidden_sizes=settings.hidden_sizes,
            mlp_act_fn=settings.mlp_act_fn,
            pipeline_family=settings.pipeline_family,
        )
    )


def new_tiny(settings: ModelSettings, in_channels: int, teacher: Adapter | None) -> Adapter:
    """A small autoencoder with random weights, for latents of the teacher's shape if there is one.

    Its blocks are those of TAESD: one at the resolution of the image, three at each one below, all of one width.

    Raises:
        UserError: if the settings cannot make one.
    """
    given = "block_out_channels" in given_in(settings)
    widths = settings.block_out_channels if given else (64,) * len(settings.block_out_channels)
    latent_channels = settings.latent_channels
    if teacher is not None:
        latent_channels = teacher.latent_channels
        ratio = teacher.spatial_compression_ratio
        levels = ratio.bit_length()
        if given and len(widths) != levels:
            raise UserError(
                f"--block_out_channels has {len(widths)} levels, and the spatial compression ratio of the teacher is "
                f"{ratio}: give {levels}."
            )
        widths = widths if given else (64,) * levels
    if len(set(widths)) > 1:
        raise UserError(f"--block_out_channels is {widths}: a tiny autoencoder has the same number at every level.")
    return adapt(new_student(teacher, in_channels, latent_channels, widths))
