"""Arrays as images of a lab, and what they become."""

import io

import numpy as np
import torch
from PIL import Image

SIZE = (8, 8)


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def expected(array):
    """8-bit values (H, W, C) as (C, H, W) in [-1, 1]."""
    return torch.from_numpy(array.astype(np.float64) / 127.5 - 1).permute(2, 0, 1).float()


def png_of(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


def chw(array):
    return torch.from_numpy(array.copy()).permute(2, 0, 1)
