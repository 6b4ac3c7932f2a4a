"""Calls of a model, as a user of diffusers would write them."""

from __future__ import annotations

import torch

from vae_plugin.autoencoders.written import decode_call, encode_call
from vae_plugin.widgets.codec import Codec
from vae_plugin.widgets.recipe import Line, ModelCode, latent_literal


def model_code(codec: Codec) -> ModelCode:
    """Python that decodes z and ids with the model `vae`."""
    plain = _is_plain(codec)
    z = "z[None]" if plain else "z[None].to(vae.device, vae.dtype)"
    height, width = codec.image_size
    crop = f"[..., :{height}, :{width}]" if _is_odd(codec) else ""
    decode = f"{decode_call(codec.adapter, z)}{crop}"
    if not codec.discrete:
        return ModelCode(decode)
    ids, back = ("ids[None]", "") if plain else ("ids[None].to(vae.device)", ".float().cpu()")
    return ModelCode(
        decode,
        indices=f"vae.quantize({z})[2][2][0]",
        codes=f"vae.quantizer.indices_to_codes({ids})[0]{back}",
        decode_indices=f"vae.decode_indices({ids}){crop}",
    )


def encoding_line(codec: Codec, source: str, seed: int | None) -> Line:
    """Python that encodes an image.

    Args:
        codec: the model.
        source: Python that yields the image, a tensor (C, H, W); a template like those of `Line`.
        seed: seed of a posterior sample; None for the posterior's mean.
    """
    draw = "mode()" if seed is None else f"sample(torch.Generator().manual_seed({seed}))"
    plain = _is_plain(codec)
    through_lab = codec.discrete and tuple(codec.model.config.image_range) != (-1, 1)
    through_lab |= not plain and seed is not None  # diffusers draws in half precision then
    if through_lab or _is_odd(codec):
        return Line(f"x = {source}\nz = {{lab}}.encode(x{'' if seed is None else f', seed={seed}'})")
    x = "x[None]" if plain else "x[None].to(vae.device, vae.dtype)"
    z = encode_call(codec.adapter, x, f".latent_dist.{draw}" if codec.adapter.gaussian else None)
    return Line(f"x = {source}\nz = {z}[0]{'' if plain else '.float().cpu()'}")


def given_line(latent: torch.Tensor) -> Line:
    """Python that yields a latent that was set from Python."""
    return Line(f"z = {latent_literal(latent, '{lab}.given.clone()')}")


def _is_plain(codec: Codec) -> bool:
    """Whether tensors need no conversion for the model."""
    return str(codec.model.device) == "cpu" and codec.model.dtype == torch.float32


def _is_odd(codec: Codec) -> bool:
    """Whether a side of the images is no multiple of the spatial compression ratio."""
    return any(side % codec.spatial_compression_ratio for side in codec.image_size)
