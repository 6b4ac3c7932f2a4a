"""`AutoencoderKLWan`: Wan 2.1 and 2.2 (Wan et al. 2025), in the image pipelines JoyImage and Bria Fibo."""

from __future__ import annotations

from ..papers import WAN
from .causal import CausalAdapter
from .wan_file import WanFile


class WanAdapter(CausalAdapter):
    """Also of the form of Wan 2.2, whose blocks have shortcuts and whose channels are those of patches."""

    class_name = "AutoencoderKLWan"
    papers = (WAN,)
    single_file = WanFile("AutoencoderKLWan", ("in_channels", "out_channels"), "AutoencoderKLQwenImage")
    clip_frames = 5
