"""The names of CompVis' latent diffusion code, which Stable Diffusion, FLUX.1 and FLUX.2 have kept."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

from .layouts import Layout, Shapes

FIRST = "encoder.conv_in.weight"  # in both layouts
NORM_GROUPS = 32  # of every published model
DOWN = re.compile(r"encoder\.(down|down_blocks)\.(\d+)\.(?:block|resnets)\.(\d+)\.conv2\.weight")
UP = re.compile(r"decoder\.(up|up_blocks)\.(\d+)\.(?:block|resnets)\.(\d+)\.conv2\.weight")

# Names inside residual blocks, norms and convolutions agree.
_RENAMED = (
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"^encoder\.down_blocks\.(\d+)\.resnets\.", r"encoder.down.\1.block."),
    (r"^encoder\.down_blocks\.(\d+)\.downsamplers\.0\.", r"encoder.down.\1.downsample."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
    (r"\.attn_1\.group_norm\.", ".attn_1.norm."),
    (r"\.attn_1\.to_(q|k|v)\.", r".attn_1.\1."),
    (r"\.attn_1\.to_out\.0\.", ".attn_1.proj_out."),
)


class LatentDiffusion(Layout):
    """`encoder.down.0.block.0.conv1.weight` and so on.

    There, the linear layers of the attention are 1x1 convolutions, and decoder levels count from the image.
    """

    code = "latent diffusion"
    first = (FIRST,)
    original = re.compile(r"(?:^|\.)(?:encoder|decoder)\.(?:down|mid|up)\.")

    def to_diffusers(self, state: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """By the converter of diffusers."""
        return convert_ldm_vae_checkpoint(dict(state), config)

    def to_original(self, state: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """The inverse of that converter."""
        levels = len(config["block_out_channels"])
        renamed = {}
        for name, value in state.items():
            for pattern, replacement in _RENAMED:
                name = re.sub(pattern, replacement, name)
            up = re.match(r"decoder\.up_blocks\.(\d+)\.(resnets|upsamplers\.0)\.(.*)", name)
            if up:
                part = "block" if up[2] == "resnets" else "upsample"
                name = f"decoder.up.{levels - 1 - int(up[1])}.{part}.{up[3]}"
            if ".attn_1." in name and value.ndim == 2:
                value = value[:, :, None, None]
            renamed[name] = value.contiguous()
        return renamed

    def refusal(self, config: Mapping[str, Any]) -> str | None:
        """Blocks with attention have no names there."""
        blocks = {*config["down_block_types"], *config["up_block_types"]}
        if blocks == {"DownEncoderBlock2D", "UpDecoderBlock2D"}:
            return None
        return (
            f"has blocks {', '.join(sorted(blocks))}, but single files for diffusers have only DownEncoderBlock2D and "
            "UpDecoderBlock2D"
        )


def architecture(shapes: Shapes) -> dict[str, Any]:
    """The fields that `AutoencoderKL` and its kin share, as the shapes say them in either layout.

    Raises:
        KeyError, IndexError, ValueError: if no such model has weights of these shapes.
    """
    found = [match for match in map(DOWN.fullmatch, shapes) if match]
    widths = channels(found, shapes)
    return {
        "in_channels": shapes[FIRST][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "block_out_channels": widths,
        "layers_per_block": 1 + max(int(match[3]) for match in found if int(match[2]) == len(widths) - 1),
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "norm_num_groups": NORM_GROUPS,
        "mid_block_add_attention": any(".mid" in name and ".att" in name for name in shapes),
    }


def decoder_channels(shapes: Shapes) -> list[int]:
    """Output channels of each level of the decoder, counted from the image as `block_out_channels` are."""
    found = [match for match in map(UP.fullmatch, shapes) if match]
    widths = channels(found, shapes)
    return widths[::-1] if found[0][1] == "up_blocks" else widths


def comfyui_decoder(widths: Sequence[int]) -> tuple[int, ...]:
    """The decoder that ComfyUI builds for weights whose last level, at the latents, has the width of these."""
    factors = (1, 2, 4, 4)[: len(widths)]
    return tuple(widths[-1] // factors[-1] * factor for factor in factors)


def channels(found: list[re.Match[str]], shapes: Shapes) -> list[int]:
    """Output channels of each level, in the order of their numbers."""
    by_level = {int(match[2]): shapes[match[0]][0] for match in found}
    if not by_level or any(width % NORM_GROUPS for width in by_level.values()):
        raise ValueError("no levels, or another number of groups in the norms")
    return [by_level[level] for level in range(len(by_level))]
