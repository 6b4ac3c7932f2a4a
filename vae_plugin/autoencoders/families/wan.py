"""`AutoencoderKLWan`: Wan 2.1 and 2.2 (Wan et al. 2025), in the image pipelines JoyImage and Bria Fibo."""

from __future__ import annotations

from ..papers import WAN
from .causal import CausalAdapter


class WanAdapter(CausalAdapter):
    """Also of the form of Wan 2.2, whose blocks have shortcuts and whose channels are those of patches."""

    class_name = "AutoencoderKLWan"
    papers = (WAN,)
    clip_frames = 5
