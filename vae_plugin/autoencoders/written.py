"""Calls of an autoencoder as a user of diffusers writes them, for code that is shown."""

from __future__ import annotations

from .adapter import Adapter

FRAME_IN, FRAME_OUT = "[:, :, None]", "[:, :, 0]"


def encode_call(adapter: Adapter, x: str, latents: str | None = None) -> str:
    """Python for the latents (B, c, h, w) of images, with the model `vae`.

    Args:
        adapter: of the model.
        x: Python for the images, (B, C, H, W) in [-1, 1].
        latents: Python behind `vae.encode(...)`. By default that without sampling.
    """
    latents = latents or adapter.latents_expression
    x = f"({x} + 1) / 2" if adapter.unit_range else x
    return f"vae.encode({x}{FRAME_IN}){latents}{FRAME_OUT}" if adapter.has_frames else f"vae.encode({x}){latents}"


def decode_call(adapter: Adapter, z: str) -> str:
    """Python for the images (B, C, H, W) in [-1, 1] of latents (B, c, h, w), see `encode_call`."""
    if adapter.has_frames:
        return f"vae.decode({z}{FRAME_IN}).sample{FRAME_OUT}"
    return f"vae.decode({z}).sample{' * 2 - 1' if adapter.unit_range else ''}"
