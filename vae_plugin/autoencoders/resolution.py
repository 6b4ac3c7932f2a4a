"""The resolution to train and measure on unless another is asked for."""

from __future__ import annotations

DEFAULT_RESOLUTION = 256


def usual_resolution(spatial_compression_ratio: int) -> int:
    """The multiple of the ratio at or below 256 pixels; the ratio itself where that is larger."""
    return max(1, DEFAULT_RESOLUTION // spatial_compression_ratio) * spatial_compression_ratio
