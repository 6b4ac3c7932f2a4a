"""PNG files that need nothing of Pillow: 8 bits of gray or RGB, with no other chunk than the pixels."""

from __future__ import annotations

import struct

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 3: 2}  # of IHDR, by the number of channels


def plain_pixels(encoded: bytes, channels: int, max_pixels: int) -> np.ndarray | None:
    """The pixels of such a file, uint8 (H, W) or (H, W, 3); None of any other, and of one that is damaged.

    Small images are decoded many times as fast: opening a file by Pillow takes longer than its pixels. What a PNG may
    say beside these (EXIF, profiles, transparency, palettes) and what is wrong with a file is left to `ImageReader`.

    Args:
        encoded: bytes of the file.
        channels: of the pixels.
        max_pixels: width times height of the largest image.
    """
    if not _is_plain(encoded, channels, max_pixels):
        return None
    import imagecodecs  # most data sets have none

    try:
        pixels = imagecodecs.png_decode(encoded)
    except imagecodecs.PngError:
        return None
    width, height = struct.unpack_from(">II", encoded, 16)
    expected = (height, width) if channels == 1 else (height, width, channels)
    return pixels if pixels.shape == expected and pixels.dtype == np.uint8 else None


def _is_plain(encoded: bytes, channels: int, max_pixels: int) -> bool:
    if not encoded.startswith(SIGNATURE + b"\x00\x00\x00\rIHDR") or len(encoded) < 33:
        return False
    width, height, *kind = struct.unpack_from(">IIBBBBB", encoded, 16)
    if kind != [8, COLOUR_TYPES.get(channels), 0, 0, 0] or not 0 < width * height <= max_pixels:
        return False
    at = 33
    while encoded[at + 4 : at + 8] == b"IDAT":
        at += 12 + int.from_bytes(encoded[at : at + 4], "big")
    return encoded[at : at + 8] == b"\x00\x00\x00\x00IEND"
