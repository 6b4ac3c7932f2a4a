"""Export of an `AutoencoderTiny` to the two files of TAESD, which ComfyUI and A1111 load."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors.torch import save_file

from ..autoencoders import Adapter, adapt
from ..autoencoders.weights import plain_names
from ..errors import UserError
from .diffusers_folder import in_precision
from .place import fill_folder

NAMES = {"taesd": 4, "taesdxl": 4, "taesd3": 16, "taef1": 16}  # latent channels of the model whose latents these are
BUILT = {  # the only architecture that TAESD's code builds
    "in_channels": 3,
    "out_channels": 3,
    "encoder_block_out_channels": (64, 64, 64, 64),
    "decoder_block_out_channels": (64, 64, 64, 64),
    "num_encoder_blocks": (1, 3, 3, 3),
    "num_decoder_blocks": (3, 3, 3, 1),
    "act_fn": "relu",
    "upsample_fn": "nearest",
    "upsampling_scaling_factor": 2,
}


def save_taesd(
    model: Adapter | ModelMixin,
    folder: Path,
    name: str,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
) -> list[str]:
    """Write NAME_encoder and NAME_decoder, each as .safetensors (for ComfyUI) and as .pth (for A1111).

    ComfyUI reads them from `models/vae_approx`, A1111 from `models/VAE-taesd`; both look for these names. The names of
    the weights are those of TAESD's code (https://github.com/madebyollin/taesd), where the decoder begins with a clamp.

    Args:
        model: an `AutoencoderTiny`.
        folder: folder to write.
        name: whose latents these are, of `NAMES`.
        dtype: precision of the weights.
        overwrite: replace existing files of the same name; other files stay.

    Returns:
        The names of the files.

    Raises:
        UserError: if TAESD's code would build another model, or the folder is not empty.
    """
    adapter = adapt(model)
    if not adapter.has_taesd_files:
        raise UserError(
            f"TAESD's files hold an AutoencoderTiny, not an {adapter.class_name}: distil one with --teacher."
        )
    _check_architecture(adapter, name)
    tiny: Any = in_precision(copy.deepcopy(adapter.model), dtype)
    with fill_folder(folder, overwrite) as staging, plain_names(tiny):
        for part, module, shift in (("encoder", tiny.encoder, 0), ("decoder", tiny.decoder, 1)):
            state = {_renamed(key, shift): value.contiguous() for key, value in module.state_dict().items()}
            save_file(state, staging / f"{name}_{part}.safetensors", {"format": "pt"})
            torch.save(state, staging / f"{name}_{part}.pth")
        return sorted(file.name for file in staging.iterdir())


def _renamed(key: str, shift: int) -> str:
    return re.sub(r"^layers\.(\d+)", lambda match: str(int(match[1]) + shift), key)


def _check_architecture(adapter: Adapter, name: str) -> None:
    built = {**BUILT, "latent_channels": NAMES[name]}
    values = {field: _without_lists(adapter.config[field]) for field in built}
    differing = [
        f"{field} = {values[field]} (theirs {value})" for field, value in built.items() if values[field] != value
    ]
    if differing:
        raise UserError(f"TAESD's code cannot load this AutoencoderTiny as {name}: {', '.join(differing)}.")


def _without_lists(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
