"""The pipelines of discrete latents, small enough for a test, around any autoencoder with a codebook."""

from __future__ import annotations

import diffusers
import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from support.tiny_pipelines import TinyPipeline, mask, picture

LATENT_SIDE = 8
TEXT_WIDTH = 8


def _amused(cls: type[diffusers.DiffusionPipeline], vqvae: torch.nn.Module, **arguments: object) -> TinyPipeline:
    torch.manual_seed(0)
    side = LATENT_SIDE * 2 ** (len(vqvae.config.block_out_channels) - 1)
    codes = vqvae.config.num_vq_embeddings
    transformer = diffusers.UVit2DModel(
        hidden_size=8,
        use_bias=False,
        hidden_dropout=0.0,
        cond_embed_dim=TEXT_WIDTH,
        micro_cond_encode_dim=2,
        micro_cond_embed_dim=10,
        encoder_hidden_size=TEXT_WIDTH,
        vocab_size=codes + 1,  # the last is the mask
        codebook_size=codes,
        in_channels=8,
        block_out_channels=8,
        num_res_blocks=1,
        downsample=True,
        upsample=True,
        block_num_heads=1,
        num_hidden_layers=1,
        num_attention_heads=1,
        attention_dropout=0.0,
        intermediate_size=8,
        layer_norm_eps=1e-6,
        ln_elementwise_affine=True,
    ).eval()
    text = CLIPTextConfig(
        hidden_size=TEXT_WIDTH,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        projection_dim=TEXT_WIDTH,
        vocab_size=16,
        max_position_embeddings=8,
    )
    pipe = cls(
        vqvae=vqvae,
        tokenizer=None,
        text_encoder=CLIPTextModelWithProjection(text).eval(),
        transformer=transformer,
        scheduler=diffusers.AmusedScheduler(mask_token_id=codes),
    )
    embeddings = {
        "prompt_embeds": torch.randn(1, TEXT_WIDTH),
        "encoder_hidden_states": torch.randn(1, 4, TEXT_WIDTH),
        "negative_prompt_embeds": torch.randn(1, TEXT_WIDTH),
        "negative_encoder_hidden_states": torch.randn(1, 4, TEXT_WIDTH),
    }
    return TinyPipeline(pipe, side, {**embeddings, "num_inference_steps": 3, **arguments})


def _side(vqvae: torch.nn.Module) -> int:
    return LATENT_SIDE * 2 ** (len(vqvae.config.block_out_channels) - 1)


def build_amused(vqvae: torch.nn.Module) -> TinyPipeline:
    """Text to image."""
    return _amused(diffusers.AmusedPipeline, vqvae, height=_side(vqvae), width=_side(vqvae))


def build_amused_img2img(vqvae: torch.nn.Module) -> TinyPipeline:
    """Image to image."""
    return _amused(diffusers.AmusedImg2ImgPipeline, vqvae, image=picture(_side(vqvae)), strength=0.7)


def build_amused_inpaint(vqvae: torch.nn.Module) -> TinyPipeline:
    """Inpainting of the right half."""
    side = _side(vqvae)
    return _amused(diffusers.AmusedInpaintPipeline, vqvae, image=picture(side), mask_image=mask(side), strength=1.0)
