"""Small models to export, with norms and 1x1 convolutions that do something."""

import torch
from diffusers import AutoencoderKL

from vae_plugin import AutoencoderVAE, AutoencoderVQVAE

LEVELS = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
TINY = {"block_out_channels": (8, 8, 16), "norm_num_groups": 4, "sample_size": 16}


def shuffled(model):
    """As training leaves them: new norms are the identity, and new biases small."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(torch.randn(p.shape, generator=generator) * 0.3)
    return model.eval()


def kl(**changes):
    torch.manual_seed(0)
    return shuffled(AutoencoderKL(**{**LEVELS, **TINY, **changes}))


def vae(**changes):
    torch.manual_seed(0)
    return shuffled(AutoencoderVAE(**{**TINY, "scaling_factor": 0.7, "shift_factor": 0.1, "sigma": 0.2, **changes}))


def vqvae(**changes):
    torch.manual_seed(0)
    model = shuffled(AutoencoderVQVAE(**{**TINY, "num_vq_embeddings": 32, **changes}))
    with torch.no_grad():  # so that many codes are chosen
        if model.quant_conv is not None:
            model.quant_conv.weight.mul_(3)
    return model


def images(batch=2, channels=3, height=16, width=24):
    generator = torch.Generator().manual_seed(2)
    return torch.rand(batch, channels, height, width, generator=generator) * 2 - 1
