"""The single files of Wan 2.1 and of Qwen-Image, whose weights have the same names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

from ..layouts import Contents, Layout, Shapes

BLOCKS = 2  # residual blocks of a level of the encoder
BUILT = {
    "dim_mult": (1, 2, 4, 4),
    "num_res_blocks": BLOCKS,
    "attn_scales": (),
}  # all that the converter of diffusers knows
WITH_STATISTICS = 16  # latent channels of the published models, whose statistics are the defaults of the classes

_RENAMED = (
    (r"^quant_conv\.", "conv1."),
    (r"^post_quant_conv\.", "conv2."),
    (r"coder\.conv_in\.", "coder.conv1."),
    (r"coder\.norm_out\.", "coder.head.0."),
    (r"coder\.conv_out\.", "coder.head.2."),
    (r"\.mid_block\.attentions\.0\.", ".middle.1."),
    (r"\.mid_block\.resnets\.0\.", ".middle.0."),
    (r"\.mid_block\.resnets\.1\.", ".middle.2."),
    (r"^encoder\.down_blocks\.", "encoder.downsamples."),
    (r"\.norm1\.gamma$", ".residual.0.gamma"),
    (r"\.(\d+)\.conv1\.(weight|bias)$", r".\1.residual.2.\2"),
    (r"\.norm2\.gamma$", ".residual.3.gamma"),
    (r"\.conv2\.(weight|bias)$", r".residual.6.\1"),
    (r"\.conv_shortcut\.", ".shortcut."),
)


class WanFile(Layout):
    """Wan2.1_VAE and qwen_image_vae: `encoder.downsamples.0.residual.2.weight` and so on.

    Args:
        class_name: of the class of diffusers.
        channels: its fields for the channels of the image.
        other: a class whose files look the same.
    """

    code = "Wan"
    first = ("encoder.conv1.weight", "encoder.conv_in.weight")
    original = re.compile(r"(?:^|\.)(?:encoder|decoder)\.(?:downsamples|upsamples|middle|head)\.")
    tools = "ComfyUI builds Wan's architecture"

    def __init__(self, class_name: str, channels: tuple[str, ...], other: str) -> None:
        self.class_name = class_name
        self.channels = channels
        self.other = other

    def holds(self, shapes: Shapes) -> bool:
        """The first convolution is one of videos, and the blocks are in one row."""
        found = next((shapes[name] for name in self.first if name in shapes), ())
        return len(found) == 5 and any(re.match(r"encoder\.down\w+\.\d+\.resample\.", name) for name in shapes)

    def config(self, contents: Contents) -> tuple[dict[str, Any], str]:
        """The architecture by the shapes. The statistics of the latents are those of the published models."""
        shapes = {_original(name): shape for name, shape in contents.shapes.items()}
        resample = re.compile(r"encoder\.downsamples\.(\d+)\.resample\.1\.weight")
        between = sorted(int(match[1]) for match in map(resample.fullmatch, shapes) if match)
        blocks, base = between[0], shapes["encoder.conv1.weight"][0]
        starts = [0, *(place + 1 for place in between)]
        widths = [shapes[f"encoder.downsamples.{start}.residual.2.weight"][0] for start in starts]
        temporal = [f"encoder.downsamples.{place}.time_conv.weight" in shapes for place in between]
        latents = shapes["conv2.weight"][0]
        own = {} if latents == WITH_STATISTICS else {"latents_mean": [0.0] * latents, "latents_std": [1.0] * latents}
        fields = {
            "_class_name": self.class_name,
            "base_dim": base,
            "z_dim": latents,
            "dim_mult": [width // base for width in widths],
            "num_res_blocks": blocks,
            "temperal_downsample": temporal,
            **dict.fromkeys(self.channels, shapes["encoder.conv1.weight"][1]),
            **own,
        }
        scaled = "latents_mean 0 and latents_std 1 are a guess" if own else "with the statistics of the published one"
        return fields, (
            f"{contents.file} is read as an {self.class_name}, {scaled}: the weights of an {self.other} have the same "
            "names. Give its config.json (--model_config) if that is wrong."
        )

    def to_diffusers(self, state: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """By the converter of diffusers."""
        return convert_wan_vae_to_diffusers(dict(state))

    def to_original(self, state: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """The inverse of that converter."""
        return {_original(name): value.contiguous() for name, value in state.items()}

    def refusal(self, config: Mapping[str, Any]) -> str | None:
        """The converter counts the blocks of Wan 2.1, and knows no others."""
        differing = [
            f"{field} = {config[field]} (theirs {value})"
            for field, value in BUILT.items()
            if (tuple(config[field]) if isinstance(value, tuple) else config[field]) != value
        ]
        if config.get("is_residual"):
            differing.append("the blocks of Wan 2.2")
        return f"has {', '.join(differing)}, and single files are those of Wan 2.1" if differing else None

    def built_by_tools(self, config: Mapping[str, Any]) -> dict[str, tuple[Any, tuple[Any, ...]]]:
        """ComfyUI (comfy/sd.py), which reads base_dim and the channels of the image from the weights."""
        return {
            "z_dim": (config["z_dim"], (16,)),
            "temperal_downsample": (list(config["temperal_downsample"]), ([False, True, True],)),
            "decoder_base_dim": (config.get("decoder_base_dim") or config["base_dim"], (config["base_dim"],)),
        }


def _original(name: str) -> str:
    """The name in the code of Wan; one of that code stays."""
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    up = re.match(r"decoder\.up_blocks\.(\d+)\.(?:resnets\.(\d+)|upsamplers\.0)\.(.*)", name)
    if up:  # of each level its residual blocks, and what doubles the resolution after them
        per_level = BLOCKS + 2
        place = per_level * int(up[1]) + (per_level - 1 if up[2] is None else int(up[2]))
        name = f"decoder.upsamples.{place}.{up[3]}"
    return name
