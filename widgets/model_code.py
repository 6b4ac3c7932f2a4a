"""Calls of a model, as a user of diffusers would write them."""

from __future__ import annotations

import torch

from vae_plugin.autoencoders.written import decode_call, encode_call
from vae_plugin.widgets.codec import Codec
from vae_plugin.widgets.recipe import Expression, Line, Recipe, given
from vae_plugin.widgets.script import ModelCode


def model_code(codec: Codec, vae: Expression) -> ModelCode:
    """Python that decodes z and ids.

    Args:
        codec: the model.
        vae: Python that yields the model.
    """
    plain = _is_plain(codec)
    z = "z[None]" if plain else f"z[None].to({_place(codec)})"
    decode = decoding(codec)
    bands = codec.shown.chosen
    shown = "image[0]" if bands is None else f"image[0, {list(bands)}]"
    if _other_range(codec):
        low, high = codec.model.config.image_range
        shown = f"({shown} - {low}) / {high - low} * 2 - 1"
    picture = Expression(f"to_pil({shown})", ("vae_plugin.datasets.transforms.to_pil",))
    if not codec.discrete:
        return ModelCode(vae, decode, picture)
    ids, back = ("ids[None]", "") if plain else (f'ids[None].to("{codec.device}")', ".float().cpu()")
    return ModelCode(
        vae,
        decode,
        picture,
        indices=f"vae.quantize({z})[2][2][0]",
        codes=f"vae.quantizer.indices_to_codes({ids})[0]{back}",
        decode_indices=f"vae.decode_indices({ids}){_crop(codec)}",
    )


def encoding(codec: Codec, name: str, source: Expression | None, latent: torch.Tensor, seed: int | None) -> Recipe:
    """Python that encodes an image, or where that cannot be written, its latent as it is.

    Args:
        codec: the model.
        name: of the image.
        source: Python that yields the image, a tensor (C, H, W); None if there is none.
        latent: what the encoder gave.
        seed: seed of a posterior sample; None for the posterior's mean.
    """
    plain = _is_plain(codec)
    draws_otherwise = not plain and seed is not None  # diffusers draws in half precision then
    if source is None or _other_range(codec) or _is_odd(codec) or draws_otherwise:
        return given(name, latent)
    draw = "mode()" if seed is None else f"sample(torch.Generator().manual_seed({seed}))"
    x = "x[None]" if plain else f"x[None].to({_place(codec)})"
    z = encode_call(codec.adapter, x, f".latent_dist.{draw}" if codec.adapter.gaussian else None)
    text = f"x = {source.text}\nz = {z}[0]{'' if plain else '.float().cpu()'}"
    return Recipe((Line(text.replace("{", "{{").replace("}", "}}"), imports=source.imports),))


def decoding(codec: Codec) -> str:
    """Python for the image (1, C, H, W) of z."""
    z = "z[None]" if _is_plain(codec) else f"z[None].to({_place(codec)})"
    return f"{decode_call(codec.adapter, z)}{_crop(codec)}"


def _crop(codec: Codec) -> str:
    height, width = codec.image_size
    return f"[..., :{height}, :{width}]" if _is_odd(codec) else ""


def _is_plain(codec: Codec) -> bool:
    """Whether tensors need no conversion for the model."""
    return str(codec.device) == "cpu" and codec.model.dtype == torch.float32


def _place(codec: Codec) -> str:
    return f'"{codec.device}", {codec.model.dtype}'


def _other_range(codec: Codec) -> bool:
    """Whether the model itself has images in another range than [-1, 1], which its adapter translates."""
    return codec.discrete and tuple(codec.model.config.image_range) != (-1, 1)


def _is_odd(codec: Codec) -> bool:
    """Whether a side of the images is no multiple of the spatial compression ratio."""
    return any(side % codec.spatial_compression_ratio for side in codec.image_size)
