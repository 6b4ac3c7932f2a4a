"""Image pipelines of causal autoencoders, small enough for a test; see `tiny_pipelines`."""

from types import SimpleNamespace

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from support.tiny_pipelines import NO_TEXT, TEXT_LENGTH, TEXT_WIDTH, TinyPipeline, _normal, _random, picture

SIDE = 16


def _qwen_image(cls, vae, **call):
    transformer = _random(
        diffusers.QwenImageTransformer2DModel,
        in_channels=4 * vae.config.z_dim,  # 2x2 latents are one token
        out_channels=vae.config.z_dim,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        joint_attention_dim=TEXT_WIDTH,
        axes_dims_rope=(2, 2, 4),
    )
    pipe = cls(vae=vae, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), **NO_TEXT)
    prompt = {
        "prompt_embeds": _normal(1, TEXT_LENGTH, TEXT_WIDTH),
        "prompt_embeds_mask": torch.ones(1, TEXT_LENGTH, dtype=torch.long),
        "true_cfg_scale": 1.0,
    }
    size = {"height": SIDE, "width": SIDE}
    return TinyPipeline(pipe, SIDE, {"num_inference_steps": 2, **prompt, **size, **call})


def build_qwen_image(vae):
    return _qwen_image(diffusers.QwenImagePipeline, vae)


def build_qwen_image_img2img(vae):
    return _qwen_image(
        diffusers.QwenImageImg2ImgPipeline, vae, image=picture(SIDE), strength=0.5, num_inference_steps=4
    )


class NoText:
    """In place of the processor of text, which the pipeline asks how long its system prompt is."""

    tokenizer = SimpleNamespace(encode=lambda text: [0])

    def apply_chat_template(self, messages, **_):
        return [[0]]


def build_qwen_image21(vae):
    """Needs a ratio of 16, which the pipeline takes for granted."""
    transformer = _random(
        diffusers.QwenImage21Transformer2DModel,
        in_channels=vae.config.z_dim,
        out_channels=vae.config.z_dim,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        context_in_dim=TEXT_WIDTH,
        axes_dims_rope=(2, 2, 4),
    )
    pipe = diffusers.QwenImage21Pipeline(
        vae=vae,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        text_encoder=None,
        processor=NoText(),
    )
    prompt = {"prompt_embeds": _normal(1, TEXT_LENGTH, TEXT_WIDTH), "true_cfg_scale": 1.0}
    return TinyPipeline(pipe, 32, {"num_inference_steps": 2, "height": 32, "width": 32, **prompt})


class Safe:
    """A safety checker to which everything is safe."""

    def to(self, device):
        return self

    def check_text_safety(self, prompt):
        return True

    def check_video_safety(self, video):
        return video


def build_cosmos2(vae):
    transformer = _random(
        diffusers.CosmosTransformer3DModel,
        in_channels=vae.config.z_dim,
        out_channels=vae.config.z_dim,
        num_attention_heads=2,
        attention_head_dim=24,  # a part of it for each axis
        num_layers=1,
        mlp_ratio=2.0,
        text_embed_dim=TEXT_WIDTH,
        adaln_lora_dim=4,
        max_size=(4, 16, 16),
        patch_size=(1, 2, 2),
        concat_padding_mask=False,
        extra_pos_embed_type=None,
    )
    pipe = diffusers.Cosmos2TextToImagePipeline(
        vae=vae,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True),
        safety_checker=Safe(),
        **NO_TEXT,
    )
    prompt = {"prompt_embeds": _normal(1, TEXT_LENGTH, TEXT_WIDTH), "guidance_scale": 0.0}
    return TinyPipeline(pipe, SIDE, {"num_inference_steps": 2, "height": SIDE, "width": SIDE, **prompt})
