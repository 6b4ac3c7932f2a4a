"""Latents in files: safetensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import safetensors
import safetensors.torch

from vae_plugin.errors import UserError
from vae_plugin.widgets.codec import Codec
from vae_plugin.widgets.shelf import Saved
from vae_plugin.wording import shown


def to_safetensors(items: Sequence[Saved], metadata: Mapping[str, str]) -> bytes:
    """Latents as a safetensors file, each under its name; chosen indices under "NAME.indices"."""
    tensors = {_tensor_name(item.name): item.latent.clone() for item in items}
    tensors |= {
        f"{_tensor_name(item.name)}.indices": item.indices.clone() for item in items if item.indices is not None
    }
    return safetensors.torch.save(tensors, dict(metadata))


def from_safetensors(data: bytes, codec: Codec) -> list[Saved]:
    """The latents in a safetensors file that fit a model.

    Raises:
        UserError: if it is no such file, or has no latent of the model's shape.
    """
    shape = tuple(codec.latent_shape)
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError) as error:
        raise UserError(f"this file cannot be read as safetensors: {error}") from error
    except KeyError as error:  # safetensors knows more types than its reader for torch
        raise UserError(f"this file has tensors of the type {error.args[0]}: save its latents as float32.") from error
    found = []
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tuple(tensor.shape) == shape:
            latent, indices = tensor.float(), tensors.get(f"{name}.indices")
            if latent.isfinite().all():
                found.append(
                    Saved(name, latent, indices if indices is not None and codec.has_indices(indices) else None)
                )
    if not found:
        shapes = ", ".join(f"{shown(name)} {tuple(tensor.shape)}" for name, tensor in list(tensors.items())[:3])
        raise UserError(f"this file has no latent of shape {shape}; it has {shapes or 'nothing'}.")
    return found


def _tensor_name(name: str) -> str:
    return f"_{name}" if name == "__metadata__" else name  # safetensors keeps that one for itself
