"""`AutoencoderVQVAE` from and to diffusers' `VQModel`, with the same weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import VQModel

from ..models.quantizers import VectorQuantizer
from .base import AutoencoderBase, like
from .padding import copy_padding
from .records import copy_records
from .weights import plain_state

SAME = (
    "in_channels",
    "block_out_channels",
    "layers_per_block",
    "act_fn",
    "sample_size",
    "norm_num_groups",
    "num_vq_embeddings",
    "scaling_factor",
    "mid_block_add_attention",
    "force_upcast",
    "lookup_from_codebook",
)


def config_from_vq_model(model: VQModel) -> dict[str, Any]:
    """The config of an `AutoencoderVQVAE` of that architecture.

    Raises:
        ValueError: if it has parts that an `AutoencoderVQVAE` lacks.
    """
    config = model.config
    blocks = {*config.down_block_types, *config.up_block_types}
    if config.norm_type != "group" or blocks != {"DownEncoderBlock2D", "UpDecoderBlock2D"}:
        raise ValueError(
            f"this VQModel has norm_type {config.norm_type!r} and blocks {', '.join(sorted(blocks))}: only 'group' and "
            "DownEncoderBlock2D, UpDecoderBlock2D can be converted."
        )
    if len(config.down_block_types) != len(config.block_out_channels):
        raise ValueError("this VQModel has another number of down blocks than of block_out_channels.")
    if config.out_channels != config.in_channels:
        raise ValueError(f"this VQModel makes {config.out_channels} channels of {config.in_channels}: give equal ones.")
    return {
        **{name: config[name] for name in SAME},
        "encoder_out_channels": config.latent_channels,
        "latent_channels": config.vq_embed_dim or config.latent_channels,
        "kmeans_init": False,
    }


def weights_from_vq_model(model: VQModel, ema: bool) -> dict[str, torch.Tensor]:
    """Its state under our names; the codebook's statistics begin as if each code had been chosen once."""
    state = plain_state(model)
    codebook = state.pop("quantize.embedding.weight").float()
    state["quantizer.codebook"] = codebook
    if ema:
        state["quantizer.sums"] = codebook.clone()
    return state


def to_vq_model(model: AutoencoderBase) -> VQModel:
    """A `VQModel` that reconstructs the same.

    Raises:
        ValueError: if `VQModel` lacks something that the model has; the message says what.
    """
    config, quantizer = model.config, model.quantizer
    codebook = getattr(quantizer, "codebook", None)
    lacking = []
    if not isinstance(quantizer, VectorQuantizer) or quantizer.distance != "euclidean" or quantizer.projects:
        lacking.append("a quantiser but 'ema' or 'vq' with Euclidean distance and vq_embed_dim = latent_channels")
    if config.likelihood not in ("gaussian", "laplace"):
        lacking.append(f"a {config.likelihood} likelihood")
    if model.quant_conv is None or model.post_quant_conv is None:
        lacking.append("a model without 1x1 convolutions")
    if config.shift_factor:
        lacking.append("a shift_factor")
    if tuple(config.image_range) != (-1, 1):
        lacking.append(f"an image_range of {tuple(config.image_range)}")
    if lacking or codebook is None:
        raise ValueError(f"a VQModel cannot have {', nor '.join(lacking)}.")
    levels = len(config.block_out_channels)
    converted = VQModel(
        **{name: config[name] for name in SAME},
        out_channels=config.in_channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=config.encoder_out_channels or config.latent_channels,
        vq_embed_dim=config.latent_channels,
    )
    state = {k: v for k, v in plain_state(model).items() if not k.startswith(("quantizer.", "likelihood."))}
    state["quantize.embedding.weight"] = codebook.detach()
    converted.load_state_dict(state)
    copy_padding(model, converted)
    copy_records(model, converted)
    return like(converted, model)
