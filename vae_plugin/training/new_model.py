"""A new model from the options."""

from __future__ import annotations

from diffusers import AutoencoderTiny
from diffusers.models.modeling_utils import ModelMixin

from ..autoencoders import Autoencoder, AutoencoderVAE, AutoencoderVQVAE
from ..autoencoders.interface import compression
from ..errors import UserError
from .finetune_options import FinetuneOptions


def new_model(options: FinetuneOptions, in_channels: int) -> Autoencoder:
    """A model with random weights, of `options.model_type`.

    Raises:
        ValueError: for a combination that cannot work.
    """
    common = {
        "in_channels": in_channels,
        "block_out_channels": options.block_out_channels,
        "layers_per_block": options.layers_per_block,
        "latent_channels": options.latent_channels,
        "norm_num_groups": options.norm_num_groups,
        "mid_block_add_attention": options.mid_block_add_attention,
        "sample_size": options.resolution,
        "likelihood": options.likelihood,
        "sigma": options.sigma_setting(),
        "num_mixtures": options.num_mixtures,
    }
    if options.model_type == "vae":
        return AutoencoderVAE(
            **common, network=options.network, hidden_sizes=options.hidden_sizes, mlp_act_fn=options.mlp_act_fn
        )
    if options.quantizer == "fsq" and options.fsq_levels and options.codebook_size:
        raise ValueError("fsq_levels and codebook_size are both given: their levels make the number of codes.")
    return AutoencoderVQVAE(
        **common,
        quantizer_type=options.quantizer,
        num_vq_embeddings=options.codebook_size or (1024 if options.quantizer == "fsq" else 512),
        vq_embed_dim=options.codebook_dim,
        commitment_weight=options.commitment_weight,
        ema_decay=options.ema_decay,
        codebook_distance=options.codebook_distance,
        quantizer_gradient=options.quantizer_gradient,
        kmeans_init=options.kmeans_init,
        dead_code_threshold=options.dead_code_threshold,
        entropy_weight=options.entropy_weight,
        num_quantizers=options.num_quantizers,
        fsq_levels=options.fsq_levels,
    )


def new_tiny(options: FinetuneOptions, in_channels: int, teacher: ModelMixin | None) -> AutoencoderTiny:
    """A small autoencoder with random weights, for latents of the teacher's shape if there is one.

    Its blocks are those of TAESD: one at the resolution of the image, three at each one below, all of one width.

    Raises:
        UserError: if the options cannot make one.
    """
    given = options.block_out_channels != FinetuneOptions.block_out_channels
    widths = options.block_out_channels if given else (64,) * len(options.block_out_channels)
    latent_channels = options.latent_channels
    if teacher is not None:
        latent_channels = teacher.config.latent_channels
        levels = compression(teacher).bit_length()
        if given and len(widths) != levels:
            raise UserError(
                f"--block_out_channels has {len(widths)} levels, the teacher shrinks images {compression(teacher)} "
                f"times: give {levels}."
            )
        widths = widths if given else (64,) * levels
    if len(set(widths)) > 1:
        raise UserError(f"--block_out_channels is {widths}: an AutoencoderTiny has the same number at every level.")
    deeper = len(widths) - 1
    return AutoencoderTiny(
        in_channels=in_channels,
        out_channels=in_channels,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        latent_channels=latent_channels,
        num_encoder_blocks=(1,) + (3,) * deeper,
        num_decoder_blocks=(3,) * deeper + (1,),
    )
