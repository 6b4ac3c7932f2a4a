"""Images that Pillow opens with more than 8 bits (modes I, I;16 and F), or would with 8 of 16: colours in PNG."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .colours import deep_to_srgb
from .rasters import Raster
from .transforms import orientation_of

DEEP = ("I", "F")


def is_deep(image: Image.Image) -> bool:
    """Whether an image that Pillow has opened has more than 8 bits."""
    return image.mode.startswith(DEEP)


def is_deep_png(image: Image.Image) -> bool:
    """Whether an image is of a PNG whose colours have 16 bits, of which Pillow would keep 8."""
    return image.format == "PNG" and not is_deep(image) and ";16" in str(getattr(image, "tile", ""))


def raster_of_png(encoded: bytes, header: Image.Image, name: str) -> Raster:
    """The colours of a PNG of 16 bits; one that the file declares transparent is.

    Args:
        encoded: the file.
        header: as Pillow has opened it.
        name: of the image, for notices.
    """
    import imagecodecs  # slow to import, and most data sets have none

    bands = imagecodecs.png_decode(encoded)
    return finished(Raster(bands[..., None] if bands.ndim == 2 else bands, colours=True), header, name)


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
