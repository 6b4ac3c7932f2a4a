"""A model as a folder of one of diffusers' own classes, which anyone opens without this package."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from diffusers.models.modeling_utils import ModelMixin

from ..autoencoders import Adapter, adapt
from ..errors import UserError
from .place import fill_folder


def plain(model: Adapter | ModelMixin) -> ModelMixin:
    """The model as a class of diffusers itself: ours as an `AutoencoderKL` or `VQModel`, any other as it is.

    Raises:
        UserError: if that class lacks something that the model has; the message says what.
    """
    adapter = adapt(model)
    try:
        return adapter.to_diffusers()
    except ValueError as error:
        raise UserError(f"this {adapter.class_name} cannot become a class of diffusers: {error}") from error


def save_diffusers_folder(
    model: Adapter | ModelMixin, folder: Path, dtype: torch.dtype = torch.float32, overwrite: bool = False
) -> type[ModelMixin]:
    """Write config.json and the weights; `from_pretrained` of the returned class opens them, or a pipeline's `vae=`.

    Images are in [-1, 1]. The model itself is left as it is.

    Args:
        model: any autoencoder of ours or of diffusers.
        folder: to write into.
        dtype: of the weights.
        overwrite: replace files of the same names there; other files are never touched.

    Raises:
        UserError: if no class of diffusers can have what the model has, or the folder is not empty.
    """
    adapter = adapt(model)
    converted = plain(adapter)
    if converted is adapter.model:
        converted = copy.deepcopy(converted)
    with fill_folder(folder, overwrite) as staging:
        in_precision(converted, dtype).save_pretrained(staging)
    return type(converted)


def in_precision(model: ModelMixin, dtype: torch.dtype) -> ModelMixin:
    """The model itself, on the CPU and cast; diffusers warns of a cast where there is nothing to cast."""
    model = model.to("cpu")
    return model if all(tensor.dtype == dtype for tensor in model.parameters()) else model.to(dtype)
