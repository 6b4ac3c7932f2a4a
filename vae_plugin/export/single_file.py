"""Export to one file with the names of CompVis' latent diffusion code, which ComfyUI and A1111 load."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from diffusers.models.modeling_utils import ModelMixin
from safetensors.torch import save_file

from ..autoencoders import Adapter, adapt
from ..autoencoders.kl_model import DESCRIPTION
from ..autoencoders.weights import plain_state
from ..errors import UserError
from ..files import json_text
from .diffusers_folder import check_range, plain
from .place import fill_file

SUFFIX = ".safetensors"
PREFIX = "first_stage_model"
TAKEN_FOR_OTHERS = (32, 64)  # latent channels by which ComfyUI recognises FLUX.2's and HunyuanImage's autoencoders

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


def ldm_state_dict(model: AutoencoderKL) -> dict[str, torch.Tensor]:
    """Rename the weights of an `AutoencoderKL` to the names of latent diffusion, `encoder.down.0.block.0.conv1.weight`.

    There, the linear layers of the attention are 1x1 convolutions, and decoder levels count from the image.
    """
    levels = len(model.config.block_out_channels)
    renamed = {}
    for name, value in plain_state(model).items():
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


def save_single_file(
    model: Adapter | ModelMixin,
    file: Path,
    prefix: bool = False,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
    note: str | None = None,
) -> AutoencoderKL:
    """Write the weights to one .safetensors file.

    Without `prefix` the names are `encoder.…`, `decoder.…`, `quant_conv.…`: a file for the VAE folder of ComfyUI
    (`models/vae`, node "Load VAE") and A1111 (`models/VAE`, setting "SD VAE"). With it every name begins with
    `first_stage_model.`, as in a whole Stable Diffusion checkpoint, into which such a file can be merged.

    To load it in diffusers, give a folder with the config.json of the `AutoencoderKL`, such as an export with
    `--format diffusers`; the metadata of the file have the same content under "config":

        AutoencoderKL.from_single_file("vae.safetensors", config="folder")

    Without `config`, diffusers 0.42 guesses the model from the names of the weights. Those of a VAE alone always mean
    Stable Diffusion 1.5: its config is downloaded (which fails offline), weights of any other architecture do not fit,
    and those of the same one get its `scaling_factor` of 0.18215 instead of their own.

    The layout cannot hold `scaling_factor` and `shift_factor`: ComfyUI and A1111 use those of the denoiser. They also
    build a single architecture, see `foreign_to_other_tools`.

    Args:
        model: an `AutoencoderKL`, or an `AutoencoderVAE` that can become one.
        file: path, ending in .safetensors.
        prefix: prefix every name with `first_stage_model.`.
        dtype: precision of the weights.
        overwrite: replace an existing file.
        note: what users of the file must know, for its metadata.

    Returns:
        The `AutoencoderKL` whose weights were written.

    Raises:
        UserError: if the layout has no place for the model, or if the file exists.
    """
    kl = single_file_form(model)
    check_range(plain_state(kl), dtype)
    start = f"{PREFIX}." if prefix else ""
    state = {start + name: value.detach().to("cpu", dtype) for name, value in ldm_state_dict(kl).items()}
    config = {name: value for name, value in kl.config.items() if not name.startswith("_")}
    metadata = {
        "format": "pt",
        "_class_name": "AutoencoderKL",
        "layout": f"latent diffusion, {f'{start}* keys' if prefix else 'keys of the VAE alone'}",
        "config": json_text({"_class_name": "AutoencoderKL", **config}, "the config"),
        **{name: str(config[name]) for name in (*DESCRIPTION, "shift_factor") if config[name] is not None},
        **({} if note is None else {"note": note}),
    }
    with fill_file(file, SUFFIX, overwrite) as partial:
        save_file(state, partial, metadata)
    return kl


def single_file_form(model: Adapter | ModelMixin) -> AutoencoderKL:
    """Convert a model to the `AutoencoderKL` whose weights a single file holds.

    Raises:
        UserError: if the model is of another kind, or has parts without a name in that layout.
    """
    adapter = adapt(model)
    if not adapter.has_single_file:
        raise UserError(
            f"a single file of latent diffusion holds an AutoencoderKL, and this model is {adapter.class_name}: "
            "export it with --format diffusers."
        )
    kl = plain(adapter)
    blocks = {*kl.config.down_block_types, *kl.config.up_block_types}
    if blocks != {"DownEncoderBlock2D", "UpDecoderBlock2D"}:
        raise UserError(
            f"this AutoencoderKL has blocks {', '.join(sorted(blocks))}, but single files for diffusers have only "
            "DownEncoderBlock2D and UpDecoderBlock2D: export it with --format diffusers."
        )
    return kl


def foreign_to_other_tools(model: AutoencoderKL) -> list[str]:
    """List what keeps ComfyUI and A1111 from loading the model: they build Stable Diffusion's architecture.

    ComfyUI (comfy/sd.py) reads the number of latent channels from the weights, omits missing 1x1 convolutions, and
    accepts the three levels of the x4 upscaler; A1111 follows the config of its checkpoint.

    Returns:
        Each difference as "field = value (theirs)"; empty if they can load it.
    """
    config = model.config
    channels, latents = tuple(config.block_out_channels), config.latent_channels
    theirs = {
        "in_channels": (config.in_channels, (3,)),
        "out_channels": (config.out_channels, (3,)),
        "block_out_channels": (channels, ((128, 256, 512, 512), (128, 256, 512))),
        "layers_per_block": (config.layers_per_block, (2,)),
        "norm_num_groups": (config.norm_num_groups, (32,)),
        "latent_channels": (latents, (4, 16) if latents in TAKEN_FOR_OTHERS else (latents,)),
        "act_fn": (config.act_fn, ("silu", "swish")),
        "mid_block_add_attention": (config.mid_block_add_attention, (True,)),
        "use_post_quant_conv": (config.use_post_quant_conv, (config.use_quant_conv,)),
    }
    return [
        f"{name} = {ours} (theirs {accepted[0]})" for name, (ours, accepted) in theirs.items() if ours not in accepted
    ]
