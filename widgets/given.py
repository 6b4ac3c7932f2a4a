"""What Python code sets on a lab, checked and converted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vae_plugin.arguments import Tensor, check
from vae_plugin.autoencoders.frames import only_frame
from vae_plugin.errors import UserError
from vae_plugin.widgets.codec import Codec
from vae_plugin.widgets.images import as_image, image_expression
from vae_plugin.widgets.outlet import plain_words
from vae_plugin.widgets.recipe import Expression
from vae_plugin.widgets.shelf import Saved
from vae_plugin.wording import shown


def as_latent(value: Any, codec: Codec) -> torch.Tensor:
    """A copy of a latent in any form, as (C, h, w), float32 on the CPU.

    Raises:
        UserError: if it does not fit the model, or is not finite.
    """
    shape = tuple(codec.latent_shape)
    try:
        z = torch.as_tensor(value)
    except Exception as error:  # torch and NumPy raise many kinds for what is no array
        raise UserError(f"a latent was given as {type(value).__name__}: give a tensor of shape {shape}.") from error
    check({"a latent": Tensor()}, {"a latent": z})
    z = only_frame(z.detach().cpu().float()) if codec.adapter.has_frames else z.detach().cpu().float()
    flat = codec.flat and z.numel() == shape[0] and z.ndim <= 2
    if flat or (z.ndim == 4 and len(z) == 1 and tuple(z.shape[1:]) == shape):
        z = z.reshape(shape)
    if tuple(z.shape) != shape:
        raise UserError(f"a latent of shape {tuple(z.shape)} was given: give one of this model's shape, {shape}.")
    if not torch.isfinite(z).all():
        raise UserError("the latent that was given is not finite: give one without NaN and infinity.")
    return z.clone()


def as_saved(value: Any, codec: Codec) -> list[Saved]:
    """Latents for the shelf: a sequence of latents or `Saved`s, or latents by name.

    Raises:
        UserError: if it is neither, or one of the latents does not fit the model.
    """
    if isinstance(value, Mapping):
        return [_saved(latent, str(name), codec) for name, latent in value.items()]
    if not isinstance(value, (list, tuple)):
        raise UserError(f"a shelf was given as {type(value).__name__}: give a list of latents, or latents by name.")
    return [_saved(item, f"latent {i}", codec) for i, item in enumerate(value)]


def _saved(latent: Any, name: str, codec: Codec) -> Saved:
    if not isinstance(latent, Saved):
        return Saved(name, as_latent(latent, codec))
    if latent.indices is not None and not codec.has_indices(latent.indices):
        raise UserError(f"the indices of {shown(latent.name)} are none of this model: leave them out.")
    return replace(latent, latent=as_latent(latent.latent, codec))


def name_and_source(image: Any, pixels: torch.Tensor, codec: Codec) -> tuple[str, Expression | None]:
    """A name for an image that was set from Python, and the Python that yields it, if its file does.

    Args:
        image: as it was given.
        pixels: the same, (C, H, W).
        codec: the model.
    """
    given = image if isinstance(image, (str, Path)) else getattr(image, "filename", None)
    if not given or not isinstance(given, (str, Path)):
        return "set from Python", None
    path = Path(given).expanduser()
    try:  # a PIL image may have been changed since it was opened
        unchanged = torch.equal(as_image(path, codec.channels, codec.image_size, codec.value_range), pixels)
    except UserError:
        unchanged = False
    expression = image_expression(path, codec.channels, codec.image_size, codec.value_range) if unchanged else None
    return plain_words(path.name), expression
