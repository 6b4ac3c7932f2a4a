"""A tiny VAE, and photographs for it to encode."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vae_plugin import AutoencoderVAE

OWN = {"in_channels": 3, "block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": 16, "latent_channels": 2}


def tiny_vae(**changes: Any) -> AutoencoderVAE:
    """A VAE with a compression of 2, always the same."""
    torch.manual_seed(0)
    return AutoencoderVAE(**{**OWN, "sigma": 0.3, **changes})


def photograph(paths: Iterable[Path]) -> None:
    """Write noise of 24 x 16 pixels."""
    noise = np.random.default_rng(0)
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(path)
