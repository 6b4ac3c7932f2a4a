"""The decoder of a page: an ONNX file that a browser can run, and that gives the same pictures."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from vae_plugin.errors import UserError
from vae_plugin.export import save_onnx
from vae_plugin.export.onnx_files import LAYOUTS
from vae_plugin.widgets.codec import Codec

MOST_BYTES = 32_000_000  # of the file
# Of one picture, a multiplication and an addition being two. WebAssembly on one core computes 12 to 18 in a second.
MOST_GIGAFLOP = 40
LEVELS = 1  # of 255, by which a picture may differ from the model's own


def check_cost(codec: Codec, latent: torch.Tensor) -> None:
    """Refuse, before anything is exported, a decoder that takes a browser too long.

    Raises:
        UserError: that tells the limit.
    """
    gigaflop = _gigaflop(codec, latent)
    if gigaflop > MOST_GIGAFLOP:
        height, width = codec.image_size
        raise UserError(
            f"the decoder of this {codec.adapter.class_name} computes {gigaflop:,.0f} GFLOP for a picture of "
            f"{height}x{width} pixels, and a page takes {MOST_GIGAFLOP} at most, which are seconds in a browser: make "
            "the lab of a smaller model, or with smaller images (resolution)."
        )


def decoder_file(codec: Codec, latent: torch.Tensor) -> bytes:
    """The decoder of a lab's model as ONNX, checked on a latent (C, h, w).

    Raises:
        UserError: if it is too large for a page, or cannot be exported.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_onnx(codec.adapter, Path(folder), overwrite=True)
        file = Path(folder) / LAYOUTS["plain"].decoder
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise UserError(
                f"the decoder of this {codec.adapter.class_name} has {size / 1e6:,.0f} MB as ONNX, and a page takes "
                f"{MOST_BYTES / 1e6:.0f} at most, because a browser reads all of it before the first picture: make the "
                "lab of a smaller model."
            )
        _check_pictures(codec, latent, file)
        return file.read_bytes()


def _gigaflop(codec: Codec, latent: torch.Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        codec.decode(latent[None])
    return counter.get_total_flops() / 1e9


def _check_pictures(codec: Codec, latent: torch.Tensor, file: Path) -> None:
    """Refuse a decoder that gives other pictures than the lab, as those with images in another range do."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    [image] = session.run(None, {LAYOUTS["plain"].latents: latent[None].numpy()})
    height, width = codec.image_size
    mine, own = codec.to_rgba(torch.from_numpy(image)[..., :height, :width]), codec.to_rgba(codec.decode(latent[None]))
    if mine.shape != own.shape or np.abs(mine.astype(int) - own).max() > LEVELS:
        raise UserError(
            f"the decoder of this {codec.adapter.class_name} gives other pictures as ONNX than in the lab, so that no "
            "page can be made of it: use the lab in a notebook."
        )
