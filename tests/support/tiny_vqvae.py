"""Small `AutoencoderVQVAE`s with every kind of quantiser, and what the tests of several files do with them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vae_plugin import AutoencoderVQVAE

TINY = {"block_out_channels": (8, 16), "norm_num_groups": 4, "sample_size": 16, "num_vq_embeddings": 16}
QUANTIZERS = {
    "ema": {},
    "ema_cosine": {"codebook_distance": "cosine"},
    "ema_projected": {"vq_embed_dim": 2},
    "ema_cosine_projected": {"vq_embed_dim": 2, "codebook_distance": "cosine"},
    "vq": {"quantizer_type": "vq"},
    "vq_projected": {"quantizer_type": "vq", "vq_embed_dim": 6, "quantizer_gradient": "rotation"},
    "fsq": {"quantizer_type": "fsq", "fsq_levels": (3, 4, 5, 2)},
    "fsq_projected": {"quantizer_type": "fsq", "num_vq_embeddings": 256},
    "lfq": {"quantizer_type": "lfq"},
    "lfq_projected": {"quantizer_type": "lfq", "num_vq_embeddings": 64},
    "rvq": {"quantizer_type": "rvq", "num_quantizers": 3},
    "rvq_projected": {"quantizer_type": "rvq", "num_quantizers": 2, "vq_embed_dim": 3},
    "simvq": {"quantizer_type": "simvq"},
    "simvq_projected": {"quantizer_type": "simvq", "vq_embed_dim": 3},
}
FIXED_CODES = ("ema_cosine", "fsq", "lfq")  # with no linear layer that could move them
every_quantizer = pytest.mark.parametrize("options", [pytest.param(o, id=name) for name, o in QUANTIZERS.items()])


def tiny(**changes: Any) -> AutoencoderVQVAE:
    torch.manual_seed(0)
    model = AutoencoderVQVAE(**{**TINY, **changes}).eval()
    with torch.no_grad():  # latents that spread over the codes
        if model.quant_conv is not None:
            model.quant_conv.weight.mul_(3)
    return model


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def state_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(state: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)
