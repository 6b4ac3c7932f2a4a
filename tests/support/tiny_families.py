"""Tiny pipelines whose autoencoder is not `AutoencoderKL`, in the manner of `tiny_pipelines`, by family.

A pipeline that takes no embeddings of the prompt gets a function in place of its own encoding.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from .tiny_pipelines import (
    LATENT_SIDE,
    MASKED_PROMPT,
    NO_TEXT,
    NO_TEXTS,
    TEXT_LENGTH,
    TEXT_WIDTH,
    TRANSFORMER,
    VAE,
    Call,
    TinyPipeline,
    _channels,
    _masked_image,
    _normal,
    _random,
    _side,
    _size,
    _sized_image,
    _tiny,
    picture,
)

EMBEDS = {"prompt_embeds": _normal(1, TEXT_LENGTH, TEXT_WIDTH)}
MASKED_EMBEDS = {**EMBEDS, "prompt_embeds_mask": torch.ones(1, TEXT_LENGTH, dtype=torch.long)}


def _shifting() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)


def _edited(side: int) -> dict[str, Any]:
    return {"image": picture(side), **_size(side)}


# --- FLUX.2 and those with its autoencoder --------------------------------------------------------------------------


def _flux2(name: str, call: Call, vae: VAE, **arguments: Any) -> TinyPipeline:
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


def _ernie(vae: VAE) -> TinyPipeline:
    transformer = _random(
        diffusers.ErnieImageTransformer2DModel,
        hidden_size=16,
        num_attention_heads=2,
        num_layers=1,
        ffn_hidden_size=16,
        **_channels(vae, 4, 4),
        text_in_dim=TEXT_WIDTH,
        rope_axes_dim=(2, 2, 4),
    )
    pipe = diffusers.ErnieImagePipeline(
        vae=vae, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), **NO_TEXT
    )
    embeds = [_normal(TEXT_LENGTH, TEXT_WIDTH)]
    return _tiny(pipe, _side(vae), _size, prompt_embeds=embeds, guidance_scale=1.0, use_pe=False)


def _bria_fibo2(call: Call, vae: VAE) -> TinyPipeline:
    transformer = _random(
        diffusers.BriaFibo2Transformer2DModel,
        in_channels=vae.config.latent_channels,
        dim=16,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        cap_feat_dim=TEXT_WIDTH,
        injection_layer_ids=(0,),
        perceiver_num_layers=1,
        min_num_gist_tokens=4,
        max_num_gist_tokens=4,
        gist_step=1,
        gist_min_text_len=4,
        gist_max_text_len=8,
        axes_dims=(2, 2, 4),
        axes_lens=(64, 64, 64),
    )
    pipe = diffusers.BriaFibo2Pipeline(
        vae=vae, transformer=transformer, scheduler=_shifting(), text_encoder=None, processor=None
    )
    embeds = _normal(1, 2, TEXT_LENGTH, TEXT_WIDTH)  # of the last layer, and of the one that is injected
    masked = torch.ones(1, TEXT_LENGTH, dtype=torch.bool)
    return _tiny(pipe, _side(vae), call, guidance_scale=1.0, prompt_embeds=embeds, prompt_embeds_mask=masked)


def _ideogram4(vae: VAE) -> TinyPipeline:
    def transformer() -> Any:
        return _random(
            diffusers.Ideogram4Transformer2DModel,
            in_channels=4 * vae.config.latent_channels,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=1,
            intermediate_size=16,
            adaln_dim=8,
            llm_features_dim=TEXT_WIDTH,
            mrope_section=(4, 2, 2),
        )

    pipe = diffusers.Ideogram4Pipeline(
        vae=vae,
        transformer=transformer(),
        unconditional_transformer=transformer(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        **NO_TEXT,
    )

    def encode_prompt(grid_h: int, grid_w: int, **_: Any) -> tuple[torch.Tensor, ...]:
        length = TEXT_LENGTH + grid_h * grid_w
        positions = torch.arange(length).view(1, -1, 1).repeat(1, 1, 3)
        indicator = torch.tensor([[3] * TEXT_LENGTH + [2] * (grid_h * grid_w)])
        return _normal(1, length, TEXT_WIDTH), positions, torch.ones(1, length, dtype=torch.long), indicator

    pipe.encode_prompt = encode_prompt
    call = {"prompt": "a", "max_sequence_length": TEXT_LENGTH, "guidance_scale": 2.0, "guidance_schedule": None}
    return _tiny(pipe, _side(vae), _size, **call)


# --- Qwen-Image -----------------------------------------------------------------------------------------------------

QWEN = {"joint_attention_dim": TEXT_WIDTH, "axes_dims_rope": (2, 2, 4), **TRANSFORMER}


def _control(side: int) -> dict[str, Any]:
    return {"control_image": picture(side), **_size(side)}


def _masked_control(side: int) -> dict[str, Any]:
    call = _masked_image(side)
    return {"control_image": call["image"], "control_mask": call["mask_image"], **_size(side)}


def _qwen(name: str, call: Call, vae: VAE) -> TinyPipeline:
    channels = {"in_channels": 4 * vae.config.latent_channels, "out_channels": vae.config.latent_channels}
    parts = {"transformer": _random(diffusers.QwenImageTransformer2DModel, **channels, **QWEN), **NO_TEXT}
    if "ControlNet" in name:
        extra = {"extra_condition_channels": 4} if "Inpaint" in name else {}
        parts["controlnet"] = _random(diffusers.QwenImageControlNetModel, **channels, **QWEN, **extra)
    if "Edit" in name:
        parts["processor"] = None
    pipe = getattr(diffusers, name)(vae=vae, scheduler=_shifting(), **parts)
    return _tiny(pipe, _side(vae), call, true_cfg_scale=1.0, **MASKED_EMBEDS)


def _krea2(vae: VAE) -> TinyPipeline:
    transformer = _random(
        diffusers.Krea2Transformer2DModel,
        in_channels=4 * vae.config.latent_channels,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=16,
        timestep_embed_dim=8,
        text_hidden_dim=TEXT_WIDTH,
        num_text_layers=2,
        text_num_attention_heads=2,
        text_num_key_value_heads=2,
        text_intermediate_size=16,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(2, 2, 4),
    )
    pipe = diffusers.Krea2Pipeline(vae=vae, transformer=transformer, scheduler=_shifting(), **NO_TEXT)
    embeds = {**MASKED_EMBEDS, "prompt_embeds": _normal(1, TEXT_LENGTH, 2, TEXT_WIDTH)}
    embeds["prompt_embeds_mask"] = embeds["prompt_embeds_mask"].bool()
    return _tiny(pipe, _side(vae), _size, guidance_scale=0.0, **embeds)


def _nucleus(vae: VAE) -> TinyPipeline:
    transformer = _random(
        diffusers.NucleusMoEImageTransformer2DModel,
        in_channels=4 * vae.config.latent_channels,
        out_channels=vae.config.latent_channels,
        num_key_value_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        axes_dims_rope=(2, 2, 4),
        moe_enabled=False,
        **TRANSFORMER,
    )
    pipe = diffusers.NucleusMoEImagePipeline(
        vae=vae, transformer=transformer, scheduler=_shifting(), text_encoder=None, processor=None
    )
    return _tiny(pipe, _side(vae), _size, guidance_scale=1.0, **MASKED_EMBEDS)


# --- HunyuanImage, Sana ---------------------------------------------------------------------------------------------


def _hunyuan(vae: VAE) -> TinyPipeline:
    transformer = _random(
        diffusers.HunyuanImageTransformer2DModel,
        **_channels(vae),
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=TEXT_WIDTH,
        text_embed_2_dim=TEXT_WIDTH,
        rope_axes_dim=(4, 4),
        **TRANSFORMER,
    )
    pipe = diffusers.HunyuanImagePipeline(
        vae=vae, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), **NO_TEXTS
    )
    second = {f"{name}_2": value for name, value in MASKED_EMBEDS.items()}
    return _tiny(pipe, _side(vae), _size, **MASKED_EMBEDS, **second)


SANA = {
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 8,
    "cross_attention_dim": 16,
    "caption_channels": TEXT_WIDTH,
    **TRANSFORMER,
}


def _half_noised(side: int) -> dict[str, Any]:
    return {**_sized_image(side), "num_inference_steps": 2}


def _sana(name: str, vae: VAE) -> TinyPipeline:
    side = max(32, _side(vae))  # the pipelines take multiples of 32
    sizes = {"sample_size": LATENT_SIDE * side // _side(vae), **_channels(vae), **SANA}
    sprint = {"guidance_embeds": True, "qk_norm": "rms_norm_across_heads"} if "Sprint" in name else {}
    parts = {"transformer": _random(diffusers.SanaTransformer2DModel, **sizes, **sprint), **NO_TEXT}
    scheduler: Any = FlowMatchEulerDiscreteScheduler()
    call: Call = lambda side: {"control_image": picture(side), **_size(side)}  # noqa: E731
    if sprint:
        scheduler, call = diffusers.SCMScheduler(), _half_noised
    else:
        parts["controlnet"] = _random(diffusers.SanaControlNetModel, **sizes)
    pipe = getattr(diffusers, name)(vae=vae, scheduler=scheduler, **parts)
    prompt = {key: value for key, value in MASKED_PROMPT.items() if not (sprint and "negative" in key)}
    return _tiny(pipe, side, call, use_resolution_binning=False, **prompt)


FAMILIES = {
    "flux2": {
        "Flux2Pipeline": partial(_flux2, "Flux2Pipeline", _size),
        "Flux2Pipeline, image": partial(_flux2, "Flux2Pipeline", _edited),
        "Flux2KleinPipeline": partial(_flux2, "Flux2KleinPipeline", _edited, guidance_scale=1.0),
        "Flux2KleinInpaintPipeline": partial(_flux2, "Flux2KleinInpaintPipeline", _masked_image, guidance_scale=1.0),
        "Flux2KleinKVPipeline": partial(_flux2, "Flux2KleinKVPipeline", _edited),
        "ErnieImagePipeline": _ernie,
        "BriaFibo2Pipeline": partial(_bria_fibo2, _size),
        "BriaFibo2Pipeline, image": partial(_bria_fibo2, _edited),
    },
    "ideogram4": {"Ideogram4Pipeline": _ideogram4},
    "qwenimage": {
        "QwenImagePipeline": partial(_qwen, "QwenImagePipeline", _size),
        "QwenImageImg2ImgPipeline": partial(_qwen, "QwenImageImg2ImgPipeline", _sized_image),
        "QwenImageInpaintPipeline": partial(_qwen, "QwenImageInpaintPipeline", _masked_image),
        "QwenImageEditPipeline": partial(_qwen, "QwenImageEditPipeline", _edited),
        "QwenImageEditInpaintPipeline": partial(_qwen, "QwenImageEditInpaintPipeline", _masked_image),
        "QwenImageEditPlusPipeline": partial(_qwen, "QwenImageEditPlusPipeline", _edited),
        "QwenImageControlNetPipeline": partial(_qwen, "QwenImageControlNetPipeline", _control),
        "QwenImageControlNetInpaintPipeline": partial(_qwen, "QwenImageControlNetInpaintPipeline", _masked_control),
        "Krea2Pipeline": _krea2,
        "NucleusMoEImagePipeline": _nucleus,
    },
    "hunyuanimage": {"HunyuanImagePipeline": _hunyuan},
    "sana": {
        "SanaControlNetPipeline": partial(_sana, "SanaControlNetPipeline"),
        "SanaSprintImg2ImgPipeline": partial(_sana, "SanaSprintImg2ImgPipeline"),
    },
}
