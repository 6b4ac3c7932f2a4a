"""Small autoencoders of every class of diffusers that can be trained, and of one of ours, with random weights."""

import torch
from diffusers import (
    AsymmetricAutoencoderKL,
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLHunyuanImage,
    AutoencoderKLHunyuanImageRefiner,
    AutoencoderKLKVAE,
    AutoencoderKLQwenImage,
    AutoencoderKLQwenImage21,
    AutoencoderKLWan,
    AutoencoderRAE,
    AutoencoderTiny,
    VQModel,
)

from vae_plugin import AutoencoderTinyFlux2

LEVELS = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 4,
    "sample_size": 16,
}
CAUSAL = {
    "base_dim": 8,
    "z_dim": 4,
    "dim_mult": [1, 1],
    "num_res_blocks": 1,
    "temperal_downsample": [True],
    "latents_mean": [0.0] * 4,
    "latents_std": [1.0] * 4,
}
CONFIGS = {
    AutoencoderKL: {"block_out_channels": (8, 8), **LEVELS},
    AutoencoderKLFlux2: {"block_out_channels": (8, 8), "latent_channels": 4, **LEVELS},
    AsymmetricAutoencoderKL: {"down_block_out_channels": (8, 8), "up_block_out_channels": (8, 8), **LEVELS},
    AutoencoderTiny: {
        "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (8, 8),
        "num_encoder_blocks": (1, 1),
        "num_decoder_blocks": (1, 1),
    },
    AutoencoderDC: {
        "latent_channels": 4,
        "attention_head_dim": 4,
        "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (8, 8),
        "encoder_layers_per_block": (1, 1),
        "decoder_layers_per_block": (1, 1),
        "encoder_qkv_multiscales": ((), ()),
        "decoder_qkv_multiscales": ((), ()),
    },
    AutoencoderKLWan: {**CAUSAL, "scale_factor_spatial": 2},
    AutoencoderKLQwenImage: CAUSAL,
    AutoencoderKLQwenImage21: {
        **CAUSAL,
        "decoder_base_dim": 8,
        "in_channels": 3,
        "out_channels": 3,
        "scale_factor_spatial": 2,
    },
    AutoencoderKLHunyuanImageRefiner: {
        "latent_channels": 4,
        "block_out_channels": (8, 8),
        "layers_per_block": 1,
        "spatial_compression_ratio": 2,
        "temporal_compression_ratio": 2,
    },
    AutoencoderKLHunyuanImage: {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": (32, 32),
        "layers_per_block": 1,
        "spatial_compression_ratio": 2,
        "sample_size": 16,
        "scaling_factor": 0.75289,
    },
    AutoencoderKLKVAE: {
        "channels": 32,
        "num_enc_blocks": 1,
        "num_dec_blocks": 1,
        "z_channels": 4,
        "ch_mult": (1, 1),
        "sample_size": 16,
    },
    AutoencoderRAE: {  # its vision model sees the 16 pixels enlarged to 112: larger patches, fewer positions
        "encoder_hidden_size": 64,
        "encoder_num_hidden_layers": 1,
        "encoder_input_size": 112,
        "decoder_hidden_size": 8,
        "decoder_num_hidden_layers": 2,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 16,
        "patch_size": 2,
    },
    VQModel: {"block_out_channels": (8, 8), "num_vq_embeddings": 32, **LEVELS},
}
CONFIGS[AutoencoderTinyFlux2] = {"block_out_channels": (8, 8), "layers_per_block": 1, "latent_channels": 4}
BY_NAME = {cls.__name__: cls for cls in CONFIGS}


def tiny(name, seed=0, **changes):
    """The model of that class name, in evaluation mode."""
    cls = BY_NAME[name]
    torch.manual_seed(seed)
    return cls(**{**CONFIGS[cls], **changes}).eval()


@torch.no_grad()
def latents(model, x):
    """What `encode` gives for images (B, C, H, W), as one tensor (B, c, h, w)."""
    x = (x + 1) / 2 if has_unit_range(model) else x
    encoded = model.encode(x[:, :, None] if has_frames(model) else x)
    z = encoded.latent_dist.parameters if hasattr(encoded, "latent_dist") else encoded[0]
    return z[:, :, 0] if has_frames(model) else z


@torch.no_grad()
def decoded(model, z):
    """Images (B, C, H, W) of latents (B, c, h, w)."""
    if has_unit_range(model):
        return model.decode(z).sample * 2 - 1
    return model.decode(z[:, :, None]).sample[:, :, 0] if has_frames(model) else model.decode(z).sample


def reconstruction(model, x):
    """What `forward` gives for images (B, C, H, W)."""
    if has_unit_range(model):
        return model((x + 1) / 2).sample * 2 - 1
    return model(x[:, :, None]).sample[:, :, 0] if has_frames(model) else model(x).sample


def has_unit_range(model):
    """Whether the images of the class are in [0, 1]."""
    return "encoder_norm_mean" in model.config


def has_frames(model):
    """Whether the class takes videos: an image is one of one frame to it."""
    return "temperal_downsample" in model.config or "temporal_compression_ratio" in model.config
