"""What is asked of a model, as the Python that a user of diffusers would write."""

from __future__ import annotations

import torch

from .codec import Codec
from .recipe import Line, ModelCode, latent_literal


def model_code(codec: Codec) -> ModelCode:
    """How to decode z and ids with the model `vae`."""
    plain = str(codec.model.device) == "cpu" and codec.model.dtype == torch.float32
    z = "z[None]" if plain else "z[None].to(vae.device, vae.dtype)"
    height, width = codec.image_size
    factor = codec.factor
    crop = "" if height % factor == 0 and width % factor == 0 else f"[..., :{height}, :{width}]"
    decode = f"vae.decode({z}).sample{crop}"
    if not codec.discrete:
        return ModelCode(decode)
    ids, back = ("ids[None]", "") if plain else ("ids[None].to(vae.device)", ".float().cpu()")
    return ModelCode(
        decode,
        tokens=f"vae.quantize({z})[2][2][0]",
        codes=f"vae.quantizer.indices_to_codes({ids})[0]{back}",
        decode_ids=f"vae.decode_indices({ids}){crop}",
    )


def encoding_line(codec: Codec, source: str, seed: int | None) -> Line:
    """How to encode an image.

    Args:
        codec: of the model.
        source: Python that gives the image, a tensor (C, H, W); a template like those of `Line`.
        seed: of a sample of the posterior; None for its mean.
    """
    model = codec.model
    draw = "mode()" if seed is None else f"sample(torch.Generator().manual_seed({seed}))"
    plain = str(model.device) == "cpu" and model.dtype == torch.float32
    odd = codec.discrete and tuple(model.config.image_range) != (-1, 1)
    odd |= not plain and seed is not None  # diffusers draws in half precision then
    if odd or any(side % codec.factor for side in codec.image_size):
        return Line(f"x = {source}\nz = {{lab}}.encode(x{'' if seed is None else f', seed={seed}'})")
    x = "x[None]" if plain else "x[None].to(vae.device, vae.dtype)"
    latents = f".latent_dist.{draw}" if codec.adapter.gaussian else codec.adapter.latents_expression
    z = f"vae.encode({x}){latents}"
    return Line(f"x = {source}\nz = {z}[0]{'' if plain else '.float().cpu()'}")


def given_line(latent: torch.Tensor) -> Line:
    """A latent that was set from Python."""
    return Line(f"z = {latent_literal(latent, '{lab}.given.clone()')}")
