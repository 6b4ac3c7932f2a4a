"""Export of a tiny autoencoder to the two files of TAESD, which ComfyUI and A1111 load."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors.torch import save_file

from ..autoencoders import Adapter, adapt
from ..autoencoders.taesd import LATENTS, PARTS, class_of, renamed_for_taesd
from ..autoencoders.weights import plain_names
from ..errors import UserError
from .diffusers_folder import in_precision
from .place import fill_folder

LEVELS = (64, 64, 64, 64)
BUILT: dict[str, dict[str, Any]] = {  # the only architectures that TAESD's code builds, by class
    "AutoencoderTiny": {
        "in_channels": 3,
        "out_channels": 3,
        "encoder_block_out_channels": LEVELS,
        "decoder_block_out_channels": LEVELS,
        "num_encoder_blocks": (1, 3, 3, 3),
        "num_decoder_blocks": (3, 3, 3, 1),
        "act_fn": "relu",
        "upsample_fn": "nearest",
        "upsampling_scaling_factor": 2,
    },
    "AutoencoderTinyFlux2": {"in_channels": 3, "out_channels": 3, "block_out_channels": LEVELS, "layers_per_block": 3},
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
        model: an `AutoencoderTiny` or `AutoencoderTinyFlux2`.
        folder: folder to write.
        name: whose latents these are, of `taesd.LATENTS`.
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
            f"TAESD's files hold a tiny autoencoder, not an {adapter.class_name}: distil one with --teacher."
        )
    _check_architecture(adapter, name)
    tiny: Any = in_precision(copy.deepcopy(adapter.model), dtype)
    with fill_folder(folder, overwrite) as staging, plain_names(tiny):
        for part in PARTS:
            state = renamed_for_taesd(part, getattr(tiny, part).state_dict())
            state = {key: value.contiguous() for key, value in state.items()}
            save_file(state, staging / f"{name}_{part}.safetensors", {"format": "pt"})
            torch.save(state, staging / f"{name}_{part}.pth")
        return sorted(file.name for file in staging.iterdir())


def _check_architecture(adapter: Adapter, name: str) -> None:
    kind, built = adapter.class_name, {**BUILT[adapter.class_name], "latent_channels": LATENTS[name]}
    values = {field: _without_lists(adapter.config[field]) for field in built}
    differing = [
        f"{field} = {values[field]} (theirs {value})" for field, value in built.items() if values[field] != value
    ]
    if class_of(name) != kind:
        differing = [f"its class (theirs {class_of(name)})"]
    if differing:
        raise UserError(f"TAESD's code cannot load this {kind} as {name}: {', '.join(differing)}.")
    z = torch.linspace(-1, 1, 4).view(1, 1, 2, 2).expand(1, LATENTS[name], 2, 2).to(adapter.model.device)
    if not torch.allclose(adapter.pipeline_latents(z), z, atol=1e-4):
        raise UserError(
            "TAESD's files hold no scale of the latents, and pipelines scale those of this model: train it with "
            "--teacher or --latent_scaling keep."
        )


def _without_lists(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
