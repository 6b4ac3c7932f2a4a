"""Small autoencoders of every class of diffusers that can be trained, with random weights."""

import torch
from diffusers import (
    AsymmetricAutoencoderKL,
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderTiny,
    VQModel,
)

LEVELS = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 4,
    "sample_size": 16,
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
    VQModel: {"block_out_channels": (8, 8), "num_vq_embeddings": 32, **LEVELS},
}
BY_NAME = {cls.__name__: cls for cls in CONFIGS}


def tiny(name, seed=0, **changes):
    """The model of that class name, in evaluation mode."""
    cls = BY_NAME[name]
    torch.manual_seed(seed)
    return cls(**{**CONFIGS[cls], **changes}).eval()


@torch.no_grad()
def latents(model, x):
    """What `encode` gives, as one tensor."""
    encoded = model.encode(x)
    return encoded.latent_dist.parameters if hasattr(encoded, "latent_dist") else encoded[0]
