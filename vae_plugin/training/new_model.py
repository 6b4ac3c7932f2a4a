"""A new model from the options."""

from __future__ import annotations

from ..autoencoders import Autoencoder, AutoencoderVAE, AutoencoderVQVAE
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
