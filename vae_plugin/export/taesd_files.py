"""Export of a tiny autoencoder to the two files of TAESD, which ComfyUI and A1111 load."""

from __future__ import annotations

import copy
from collections.abc import Mapping
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


def save_taesd(
    model: Adapter | ModelMixin,
    folder: Path,
    name: str | None,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
) -> list[str]:
    """Write NAME_encoder and NAME_decoder, each as .safetensors (for ComfyUI) and as .pth (for A1111).

    ComfyUI reads them from `models/vae_approx`, A1111 from `models/VAE-taesd`; both look for these names. The names of
    the weights are those of TAESD's code (https://github.com/madebyollin/taesd), where the decoder begins with a clamp.

    Args:
        model: an `AutoencoderTiny` or `AutoencoderTinyFlux2`.
        folder: folder to write.
        name: whose latents these are, of `taesd.LATENTS`; the files are named after it.
        dtype: precision of the weights.
        overwrite: replace existing files of the same name; other files stay.

    Returns:
        The names of the files.

    Raises:
        UserError: if TAESD's code would build another model, no name is given, or the folder is not empty.
    """
    adapter = adapt(model)
    if adapter.taesd_architecture is None:
        raise UserError(
            f"TAESD's files hold a tiny autoencoder, not an {adapter.class_name}: distil one with --teacher."
        )
    if name is None:
        raise UserError(f"--format taesd needs --taesd_name, whose latents these are: {', '.join(LATENTS)}.")
    _check_architecture(adapter, adapter.taesd_architecture, name)
    tiny: Any = in_precision(copy.deepcopy(adapter.model), dtype)
    with fill_folder(folder, overwrite) as staging, plain_names(tiny):
        for part in PARTS:
            state = renamed_for_taesd(part, getattr(tiny, part).state_dict())
            state = {key: value.contiguous() for key, value in state.items()}
            save_file(state, staging / f"{name}_{part}.safetensors", {"format": "pt"})
            torch.save(state, staging / f"{name}_{part}.pth")
        return sorted(file.name for file in staging.iterdir())


def _check_architecture(adapter: Adapter, architecture: Mapping[str, Any], name: str) -> None:
    kind, built = adapter.class_name, {**architecture, "latent_channels": LATENTS[name]}
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
