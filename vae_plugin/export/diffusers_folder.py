"""Export to a folder of one of diffusers' own classes, which opens without this package."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers.models.modeling_utils import ModelMixin

from ..autoencoders import Adapter, adapt
from ..autoencoders.weights import few, plain_names, plain_state
from ..errors import UserError
from .place import fill_folder


def plain(model: Adapter | ModelMixin) -> ModelMixin:
    """Convert one of our models to an `AutoencoderKL` or `VQModel`; return any other model as it is.

    Raises:
        UserError: if the class of diffusers lacks something that the model has; the message says what.
    """
    adapter = adapt(model)
    try:
        return adapter.to_diffusers()
    except ValueError as error:
        raise UserError(f"this {adapter.class_name} cannot become a class of diffusers: {error}") from error


def save_diffusers_folder(
    model: Adapter | ModelMixin,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
    variant: str | None = None,
) -> type[ModelMixin]:
    """Write config.json and weights for images in [-1, 1]; the model itself is not changed.

    Args:
        model: one of our autoencoders or of diffusers'.
        folder: folder to write.
        dtype: precision of the weights.
        overwrite: replace existing files of the same name; other files stay.
        variant: word in the name of the weights, which `from_pretrained(variant=...)` asks for, such as "fp16".

    Returns:
        The class whose `from_pretrained` opens the folder.

    Raises:
        UserError: if no class of diffusers has everything that the model has, or if the folder is not empty.
    """
    adapter = adapt(model)
    converted = plain(adapter)
    if converted is adapter.model:
        converted = copy.deepcopy(converted)
    converted = in_precision(converted, dtype)
    with fill_folder(folder, overwrite) as staging, plain_names(converted):
        converted.save_pretrained(staging, variant=variant)
    return type(converted)


def in_precision(model: ModelMixin, dtype: torch.dtype) -> ModelMixin:
    """Move a model to the CPU and cast it, but not to the precision it has, which would make diffusers warn.

    Raises:
        UserError: if a weight is beyond what the precision holds.
    """
    model = model.to("cpu")
    check_range(plain_state(model), dtype)
    return model if all(tensor.dtype == dtype for tensor in model.parameters()) else model.to(dtype)


def check_range(state: Mapping[str, torch.Tensor], dtype: torch.dtype) -> None:
    """Refuse weights that would become infinite in a precision.

    Raises:
        UserError: naming two of them, and the cure.
    """
    wrong = [name for name, w in state.items() if w.is_floating_point() and not w.to(dtype).isfinite().all()]
    if wrong:
        name = str(dtype).removeprefix("torch.")
        raise UserError(
            f"{name} cannot hold these weights ({few(wrong)}): its largest number is {torch.finfo(dtype).max:.5g}. "
            "Export them as float32."
        )
