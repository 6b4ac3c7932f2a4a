"""Conversions between image files, PIL images and tensors in [-1, 1]."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from ..errors import UserError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
ALPHA_MODES = ("LA", "PA", "RGBA", "RGBa")


class DataError(UserError):
    """Data that cannot be used; the message says what was found and what to give."""


def open_image(source: str | Path | bytes) -> Image.Image:
    """Read and decode an image file, or the bytes of one.

    Raises:
        DataError: if it is missing, truncated or not an image.
    """
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # on damaged files PIL's decoders raise almost any exception
        name = f"these {len(source)} bytes" if isinstance(source, bytes) else source
        raise DataError(f"{name} cannot be read as an image: {error}") from error
    return image


def check_channels(channels: int) -> int:
    """Return `channels`, or raise a DataError if image files cannot have this many."""
    if channels not in MODES:
        raise DataError(
            f"channels is {channels}: image files have 1 (gray), 3 (RGB) or 4 (RGBA) channels. A model with another "
            "number of input channels needs other data."
        )
    return channels


def convert(image: Image.Image, channels: int) -> Image.Image:
    """Convert to an upright 8-bit image with 1 (gray, ITU-R 601 luma), 3 (RGB) or 4 (RGBA) channels.

    The EXIF orientation is applied and 16-bit gray is scaled to 8 bits. Transparent images are composited on white
    unless the result has an alpha channel.

    Raises:
        DataError: for another number of channels, or pixels of unknown range (float, or more than 16 bits).
    """
    mode = MODES[check_channels(channels)]
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise DataError("the pixels are floats of unknown range: save the image with 8 or 16 bits.")
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _to_8_bits(image)
    if channels != 4 and (image.mode in ALPHA_MODES or "transparency" in image.info):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == "LAB":  # PIL cannot convert it to gray directly
        image = image.convert("RGB")
    return image.convert(mode)


def _to_8_bits(image: Image.Image) -> Image.Image:
    # PIL opens some 16-bit files as 32-bit images, and its own conversion clips everything above 255.
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise DataError(f"gray values range from {pixels.min()} to {pixels.max()}: save the image with 8 or 16 bits.")
    return Image.fromarray(((pixels * 255 + 32767) // 65535).astype(np.uint8))


def image_to_tensor(image: Image.Image, channels: int) -> torch.Tensor:
    """Convert a PIL image at its own size to float32 (C, H, W); an 8-bit value v becomes v / 127.5 - 1.

    Raises:
        DataError: see `convert`.
    """
    return _scale(convert(image, channels))


def to_tensor(
    image: Image.Image,
    resolution: int,
    channels: int,
    crop: tuple[float, float] = (0.5, 0.5),
    flip: bool = False,
) -> torch.Tensor:
    """Convert a PIL image to a square tensor: the shorter side is resized to `resolution`, the longer side cropped.

    Args:
        image: image of any size; small ones are enlarged.
        resolution: side of the result in pixels.
        channels: 1, 3 or 4; see `convert`.
        crop: horizontal and vertical position of the square: 0 is left or top, 0.5 the centre, 1 right or bottom.
        flip: mirror the image left to right.

    Returns:
        float32 (C, resolution, resolution), where an 8-bit value v becomes v / 127.5 - 1.

    Raises:
        DataError: see `convert`.
    """
    image = convert(image, channels)
    side = min(image.size)
    left, top = (_offset(length, side, resolution, at) for length, at in zip(image.size, crop, strict=True))
    # A single call resizes and crops. PIL's filter still sees the pixels outside the box, nothing is computed only to
    # be thrown away, and the aspect ratio is exact, where resizing first would round the longer side to whole pixels.
    box = (left, top, left + side, top + side)
    image = image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=box)
    if flip:
        image = ImageOps.mirror(image)
    return _scale(image)


def _offset(length: int, side: int, resolution: int, position: float) -> float:
    """Offset within `length` pixels of a window of `side` pixels that is resized to `resolution` pixels."""
    # In steps of whole output pixels, so that an image of the right size is cropped without resampling.
    last = (length - side) * resolution // side
    return min(int(position * (last + 1)), last) * side / resolution


def _scale(image: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(image))
    pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    return (pixels.float() / 127.5 - 1).contiguous()


def to_uint8(x: torch.Tensor) -> torch.Tensor:
    """Convert values in [-1, 1] to 8-bit values 0 to 255, rounded and clamped; any shape."""
    return ((x.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def to_pil(x: torch.Tensor) -> Image.Image:
    """Convert an image (C, H, W) in [-1, 1] with 1, 3 or 4 channels to a PIL image.

    Raises:
        ValueError: for another shape.
    """
    if x.ndim != 3 or x.shape[0] not in MODES:
        raise ValueError(f"got an image of shape {tuple(x.shape)}: expected (C, H, W) with C = 1, 3 or 4.")
    pixels = to_uint8(x).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels[:, :, 0] if x.shape[0] == 1 else pixels)
