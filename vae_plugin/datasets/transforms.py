"""Conversions between image files, PIL images and tensors in [-1, 1]."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from .colours import has_alpha, note_transparent_16_bits, to_8_bits, to_srgb
from .decoded import Decoded, tensors_of
from .errors import DataError
from .framing import ViewOf
from .rules import LATEST, DataRules

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
ORIENTATION = 0x0112  # tag of EXIF
TURNS: dict[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def check_channels(channels: int, rules: DataRules = LATEST) -> int:
    """Return `channels`, or raise a DataError if images cannot have this many."""
    return channels if rules.keep_depth and channels > 0 else check_colours(channels)


def check_colours(channels: int) -> int:
    """Return `channels`, or raise a DataError if photographs cannot have this many."""
    if channels not in MODES:
        raise DataError(
            f"channels is {channels}: image files have 1 (gray), 3 (RGB) or 4 (RGBA) channels. A model with another "
            "number of input channels needs other data."
        )
    return channels


def bands_to_show(channels: int) -> tuple[int, ...] | None:
    """The bands of an image that its picture shows, unless others are chosen.

    None for gray, RGB and RGBA, which are shown as they are. Of 2 it is the first, in gray; of more than 4 the first
    three, as red, green and blue.
    """
    return None if channels in MODES else (0,) if channels < 3 else (0, 1, 2)


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF orientation says."""
    # ImageOps.exif_transpose would also write the EXIF back, and fails where that cannot be done.
    turn = TURNS.get(orientation_of(image))
    return image if turn is None else image.transpose(turn)


def orientation_of(image: Image.Image) -> Any:
    """The EXIF orientation of an image; None if it has none that can be read."""
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:
        return None


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an image as it is seen, by what its header says; EXIF at the end of a PNG is not found."""
    # Pillow would decode a PNG to look for it, and has already turned the size of a TIFF.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return image.size
    width, height = image.size
    return (height, width) if orientation_of(image) in (5, 6, 7, 8) else (width, height)


def convert(image: Image.Image, channels: int, rules: DataRules = LATEST, name: str = "the image") -> Image.Image:
    """Convert to an upright 8-bit image with 1 (gray, ITU-R 601 luma), 3 (RGB) or 4 (RGBA) channels.

    The EXIF orientation is applied, 16-bit gray is scaled to 8 bits, and an embedded colour profile is converted to
    sRGB. Transparent images are composited on white unless the result has an alpha channel.

    Args:
        image: image of any mode.
        channels: of the result.
        rules: by which files become images.
        name: of the image, for notices.

    Raises:
        DataError: for another number of channels, or pixels of unknown range (float, or more than 16 bits).
    """
    mode = MODES[check_colours(channels)]
    image = upright(image)
    if image.mode == "F":
        raise DataError("the pixels are floats of unknown range: save the image with 8 or 16 bits.")
    if image.mode == "I" or image.mode.startswith("I;16"):
        try:
            image = to_8_bits(image, rules, name)
        except ValueError as error:
            raise DataError(str(error)) from error
    if rules.transparent_16_bits:
        note_transparent_16_bits(image, name)
    if rules.convert_profiles:
        image = to_srgb(image, name)
    if channels != 4 and has_alpha(image):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == "LAB":  # PIL cannot convert it to gray directly
        image = image.convert("RGB")
    return image.convert(mode)


def to_tensor(
    image: Image.Image,
    channels: int,
    view_of: ViewOf | None = None,
    rules: DataRules = LATEST,
    name: str = "the image",
) -> torch.Tensor:
    """Convert a PIL image to a tensor of what is seen of it.

    Args:
        image: image of any size.
        channels: 1, 3 or 4; see `convert`.
        view_of: width and height of the upright image -> what is seen of it; None for the whole image at its own size.
        rules: see `convert`.
        name: see `convert`.

    Returns:
        float32 (C, H, W), where an 8-bit value v becomes v / 127.5 - 1.

    Raises:
        DataError: see `convert`.
    """
    image = convert(image, channels, rules, name)
    return tensors_of([Decoded(image, image.size).seen(view_of, rules)])[0]


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
