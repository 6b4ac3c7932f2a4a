"""Between image files, PIL images and tensors in [-1, 1]."""

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
    """The data that was given cannot be used; the message says what was found and what to give."""


def open_image(source: str | Path | bytes) -> Image.Image:
    """Read an image file, or the bytes of one, completely.

    Raises:
        DataError: if it is missing, truncated or no image.
    """
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # on damaged files PIL's decoders raise nearly everything there is
        name = f"these {len(source)} bytes" if isinstance(source, bytes) else source
        raise DataError(f"{name} cannot be read as an image: {error}") from error
    return image


def check_channels(channels: int) -> int:
    """`channels` itself, or a DataError where image files cannot have that many."""
    if channels not in MODES:
        raise DataError(
            f"channels is {channels}: image files have 1 (gray), 3 (RGB) or 4 (RGBA); a model with another number of "
            "input channels needs other data."
        )
    return channels


def convert(image: Image.Image, channels: int) -> Image.Image:
    """An upright 8-bit image of 1 (gray, ITU-R 601 luma), 3 (RGB) or 4 (RGBA) channels.

    The EXIF orientation is applied and 16-bit gray is scaled to 8 bits. Where there is transparency and the result has
    none, the image is laid on white.

    Raises:
        DataError: for another number of channels, or pixels whose range is not known (float, more than 16 bits).
    """
    mode = MODES[check_channels(channels)]
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise DataError("the pixels are floats, whose range is unknown: save the image with 8 or 16 bits.")
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _to_8_bits(image)
    if channels != 4 and (image.mode in ALPHA_MODES or "transparency" in image.info):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == "LAB":  # has no direct way to gray
        image = image.convert("RGB")
    return image.convert(mode)


def _to_8_bits(image: Image.Image) -> Image.Image:
    # PIL opens some 16-bit files as 32-bit images, and its own conversion clips everything above 255 to white.
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise DataError(f"gray values reach from {pixels.min()} to {pixels.max()}: save the image with 8 or 16 bits.")
    return Image.fromarray(((pixels * 255 + 32767) // 65535).astype(np.uint8))


def image_to_tensor(image: Image.Image, channels: int) -> torch.Tensor:
    """A PIL image at its own size: float32 (C, H, W), where the 8-bit value v becomes v / 127.5 - 1.

    Raises:
        DataError: as `convert` does.
    """
    return _scale(convert(image, channels))


def to_tensor(
    image: Image.Image,
    resolution: int,
    channels: int,
    crop: tuple[float, float] = (0.5, 0.5),
    flip: bool = False,
) -> torch.Tensor:
    """A square of a PIL image: the shorter side is resized to `resolution`, the longer side is cropped.

    Args:
        image: any size; a smaller one is enlarged.
        resolution: side of the result in pixels.
        channels: 1, 3 or 4; see `convert`.
        crop: where the square lies, horizontally and vertically: 0 left or top, 0.5 the centre, 1 right or bottom.
        flip: mirror it left to right.

    Returns:
        float32 (C, resolution, resolution), where the 8-bit value v becomes v / 127.5 - 1.

    Raises:
        DataError: as `convert` does.
    """
    image = convert(image, channels)
    side = min(image.size)
    left, top = (_offset(length, side, resolution, at) for length, at in zip(image.size, crop, strict=True))
    # One call resizes and crops: PIL's filter still sees what lies outside the box, nothing is computed only to be
    # thrown away, and the aspect stays exact where resizing to whole pixels first would round the longer side.
    box = (left, top, left + side, top + side)
    image = image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=box)
    if flip:
        image = ImageOps.mirror(image)
    return _scale(image)


def _offset(length: int, side: int, resolution: int, position: float) -> float:
    """Start of a window of `side` pixels, of which `resolution` are made, within `length` pixels."""
    # Steps of whole output pixels: an image that already has the right size is cropped and not resampled.
    last = (length - side) * resolution // side
    return min(int(position * (last + 1)), last) * side / resolution


def _scale(image: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(image))
    pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    return (pixels.float() / 127.5 - 1).contiguous()


def to_uint8(x: torch.Tensor) -> torch.Tensor:
    """Values in [-1, 1] as 8-bit values 0 ... 255, rounded and clamped; any shape."""
    return ((x.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def to_pil(x: torch.Tensor) -> Image.Image:
    """An image (C, H, W) in [-1, 1] with 1, 3 or 4 channels as a PIL image.

    Raises:
        ValueError: for another shape.
    """
    if x.ndim != 3 or x.shape[0] not in MODES:
        raise ValueError(f"the image has shape {tuple(x.shape)}: give (C, H, W) with C = 1, 3 or 4.")
    pixels = to_uint8(x).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels[:, :, 0] if x.shape[0] == 1 else pixels)
