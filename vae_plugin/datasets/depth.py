"""Images that Pillow opens with more than 8 bits (modes I, I;16 and F), or would with 8 of 16: colours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from ..notices import say_once
from .colours import deep_to_srgb
from .rasters import Raster
from .transforms import orientation_of

DEEP = ("I", "F")


def is_deep(image: Image.Image) -> bool:
    """Whether an image that Pillow has opened has more than 8 bits."""
    return image.mode.startswith(DEEP)


def deep_colours(read: Callable[[], bytes], header: Image.Image, name: str) -> np.ndarray | None:
    """The colours (H, W, C) of an image of which Pillow would keep 8 of up to 16 bits, as uint16; None of others.

    Those are PNG, AVIF, JPEG2000 (whose values near white Pillow also takes for black) and binary PPM. Of HEIC 8 bits
    are kept, which is said.

    Args:
        read: gives the bytes of the file; called for those only that may be deep.
        header: as Pillow has opened it.
        name: of the file, for notices.
    """
    tile = next(iter(getattr(header, "tile", ())), None)
    if is_deep(header) or tile is None:
        return None
    if header.format == "PNG" and ";16" in str(tile):
        import imagecodecs  # slow to import, and most data sets have none

        return imagecodecs.png_decode(read())
    if header.format == "AVIF" and (bits := _bits_of_avif(encoded := read())) > 8:
        import imagecodecs

        return _of_16_bits(imagecodecs.avif_decode(encoded), (1 << bits) - 1)
    if header.format == "HEIF" and (bits := _bits_of_heif(read())) > 8:
        say_once("HEIC of many bits", f"{name} has {bits} bits, of which 8 are kept, and so have others like it.")
    if header.format == "JPEG2000" and (bits := _bits_of_jpeg2000(encoded := read())) > 8:
        import imagecodecs

        return _of_16_bits(imagecodecs.jpeg2k_decode(encoded), (1 << bits) - 1)
    if tile.codec_name == "ppm" and tile.args[1] > 255:
        values = np.frombuffer(read(), ">u2", header.width * header.height * 3, tile.offset)
        return _of_16_bits(values.reshape(header.height, header.width, 3), tile.args[1])
    return None


def raster_of_colours(colours: np.ndarray, header: Image.Image, name: str) -> Raster:
    """An image of `deep_colours`; what the file declares transparent is."""
    return finished(Raster(colours[..., None] if colours.ndim == 2 else colours, colours=True), header, name)


def _bits_of_jpeg2000(encoded: bytes) -> int:
    start = encoded.find(b"\xff\x4f\xff\x51")  # SOC and SIZ; the bits of the first component follow after 42 bytes
    return (encoded[start + 42] & 0x7F) + 1 if 0 <= start < len(encoded) - 42 else 0


def _bits_of_avif(encoded: bytes) -> int:
    start = encoded.find(b"av1C")  # the configuration of the codec; high_bitdepth and twelve_bit are in its third byte
    flags = encoded[start + 6] if 0 <= start < len(encoded) - 6 else 0
    return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10


def _bits_of_heif(encoded: bytes) -> int:
    start = encoded.find(b"pixi")  # version and flags, the number of channels, and the bits of each
    return encoded[start + 9] if 0 <= start < len(encoded) - 9 else 8


def _of_16_bits(values: np.ndarray, largest: int) -> np.ndarray:
    """Whole numbers from 0 to `largest` as those from 0 to 65535."""
    return ((values.astype(np.uint32) * 65535 + largest // 2) // largest).astype(np.uint16)


def raster_of_image(image: Image.Image, name: str) -> Raster:
    """An image of Pillow's with more than 8 bits; what fits into 16 has the range of 16."""
    values = np.asarray(image)
    if image.mode != "F" and values.min() >= 0 and values.max() <= 65535:  # PIL opens some files of 16 bits as of 32
        values = values.astype(np.uint16)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int) and values.dtype == np.uint16:
        alpha = np.where(values == transparent, 0, 65535).astype(np.uint16)
        values = np.stack([values, alpha], axis=-1)
    return finished(Raster(values if values.ndim == 3 else values[..., None], colours=True), image, name)


def raster_of_bands(image: Image.Image) -> Raster:
    """The bands of an upright image of 8 bits, as they are."""
    bands = np.asarray(image)
    return Raster(bands if bands.ndim == 3 else bands[..., None])


def finished(raster: Raster, image: Image.Image, name: str) -> Raster:
    """The image upright and in sRGB, as the header that Pillow has read says."""
    profile = image.info.get("icc_profile")
    if profile:
        raster = deep_to_srgb(raster, profile, name)
    return raster.turned(orientation_of(image))
