"""Images of 16 bits that Pillow opens, or would with 8 of them: PNG, and whatever else it has as I, I;16 or F."""

from __future__ import annotations

import io
from typing import IO, Any

import numpy as np
from PIL import Image

from .colours import deep_to_srgb
from .errors import DataError
from .rasters import Raster, fit, other_bands
from .transforms import orientation_of

PNG = b"\x89PNG\r\n\x1a\n"
DEPTH, COLOUR = 24, 25  # offsets in the header of a PNG
BANDS = {0: 1, 2: 3, 4: 2, 6: 4}  # by its type of colour
DEEP = ("I", "F")


class DeepPng:
    """A PNG of 16 bits, as far as its header.

    Args:
        file: open.
        name: of the file, for notices.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        file.seek(0)
        self._encoded, self._name = file.read(), name
        self._size = tuple(int.from_bytes(self._encoded[at : at + 4], "big") for at in (16, 20))
        self._bands = BANDS[self._encoded[COLOUR]]

    @staticmethod
    def matches(head: bytes) -> bool:
        """Whether a file that begins like this is one."""
        return head.startswith(PNG) and len(head) > COLOUR and head[DEPTH] == 16 and head[COLOUR] in BANDS

    def size(self, channels: int) -> tuple[int, int]:
        """Width and height.

        Raises:
            DataError: if a model of so many channels does not take it.
        """
        if not fit(self._bands, channels, colours=True):
            raise DataError(other_bands(self._bands, channels))
        return self._size[0], self._size[1]

    @property
    def bytes(self) -> int:
        """Size of what would be decoded, with an alpha channel that a chunk may add."""
        return self._size[0] * self._size[1] * (self._bands + self._bands % 2) * 2

    def raster(self, channels: int) -> Raster:
        """The image, decoded; a colour that the file declares transparent is."""
        import imagecodecs  # slow to import, and most data sets have none

        bands = imagecodecs.png_decode(self._encoded)
        raster = Raster(bands[..., None] if bands.ndim == 2 else bands, colours=True)
        return finished(raster, Image.open(io.BytesIO(self._encoded), formats=("PNG",)), self._name)


def is_deep(image: Image.Image) -> bool:
    """Whether an image that Pillow has opened has more than 8 bits."""
    return image.mode.startswith(DEEP)


def raster_of_image(image: Image.Image, name: str) -> Raster:
    """An image of Pillow's with more than 8 bits; what fits into 16 has the range of 16."""
    values = np.asarray(image)
    if image.mode != "F" and values.min() >= 0 and values.max() <= 65535:  # PIL opens some files of 16 bits as of 32
        values = values.astype(np.uint16)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        alpha = np.where(values == transparent, 0, 65535).astype(np.uint16)
        values = np.stack([values, alpha], axis=-1) if values.dtype == np.uint16 else values
    return finished(Raster(values if values.ndim == 3 else values[..., None], colours=True), image, name)


def raster_of_bands(image: Image.Image) -> Raster:
    """The bands of an upright image of 8 bits, as they are."""
    bands = np.asarray(image)
    return Raster(bands if bands.ndim == 3 else bands[..., None])


def finished(raster: Raster, image: Any, name: str) -> Raster:
    """The image upright and in sRGB, as the header that Pillow has read says."""
    profile = image.info.get("icc_profile")
    if profile:
        raster = deep_to_srgb(raster, profile, name)
    return raster.turned(orientation_of(image))
