"""The autoencoders of Qwen-Image, which go on from Wan's (Wu et al. 2025)."""

from __future__ import annotations

from ..papers import QWEN_IMAGE, WAN
from .causal import CausalAdapter
from .wan_file import WanFile


class QwenImageAdapter(CausalAdapter):
    """`AutoencoderKLQwenImage`, also of RGBA images as in Qwen-Image-Layered."""

    class_name = "AutoencoderKLQwenImage"
    channel_fields = ("input_channels",)
    papers = (QWEN_IMAGE, WAN)
    single_file = WanFile("AutoencoderKLQwenImage", ("input_channels",), "AutoencoderKLWan")
    clip_frames = 5


class QwenImage21Adapter(CausalAdapter):
    """`AutoencoderKLQwenImage21`: RGBA images, in a class that has only the taps of one frame."""

    class_name = "AutoencoderKLQwenImage21"
    papers = (WAN,)  # none that is its own
