"""Tiny pipelines whose autoencoder is not `AutoencoderKL`, in the manner of `tiny_pipelines`, by family.

Those that cannot be given embeddings of the prompt encode it with a function that is put in place of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from .tiny_pipelines import (
    NO_TEXT,
    TEXT_LENGTH,
    TEXT_WIDTH,
    TRANSFORMER,
    VAE,
    TinyPipeline,
    _normal,
    _random,
    _side,
    _size,
    _sized_image,
    _tiny,
    mask,
    picture,
)

EMBEDS = {"prompt_embeds": _normal(1, TEXT_LENGTH, TEXT_WIDTH)}
MASKED_EMBEDS = {**EMBEDS, "prompt_embeds_mask": torch.ones(1, TEXT_LENGTH, dtype=torch.long)}


def _shifting() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)


def _edited(side: int) -> dict[str, Any]:
    return {"image": picture(side), **_size(side)}


def _masked(side: int) -> dict[str, Any]:
    return {**_sized_image(side), "mask_image": mask(side)}


# --- FLUX.2 ---------------------------------------------------------------------------------------------------------


def _flux2(name: str, call: Callable[[int], dict[str, Any]], vae: VAE, **arguments: Any) -> TinyPipeline:
    transformer = _random(
        diffusers.Flux2Transformer2DModel,
        in_channels=4 * vae.config.latent_channels,
        num_single_layers=1,
        joint_attention_dim=TEXT_WIDTH,
        timestep_guidance_channels=8,
        axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=False,
        **TRANSFORMER,
    )
    pipe = getattr(diffusers, name)(vae=vae, transformer=transformer, scheduler=_shifting(), **NO_TEXT)
    return _tiny(pipe, _side(vae), call, **EMBEDS, **arguments)
