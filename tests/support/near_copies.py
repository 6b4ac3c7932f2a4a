"""Smooth random pictures, as unlike each other as photographs are."""

import numpy as np
from PIL import Image


def photograph(number):
    """RGB of 120 x 90 pixels."""
    rng = np.random.default_rng((number, 11))
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3)).astype(np.uint8)).resize(
        (120, 90), Image.Resampling.BICUBIC
    )
    pixels = np.asarray(coarse) * 0.8 + 20 + rng.normal(0, 3, (90, 120, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
