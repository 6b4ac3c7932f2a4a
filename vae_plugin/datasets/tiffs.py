"""TIFF files that Pillow does not read, or not in full: more than 8 bits, floats, many bands or pages."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ..notices import say_once
from .colours import deep_to_srgb
from .errors import DataError
from .formats import set_up_pillow
from .rasters import COLOURS, NUMBERS, Raster, fit, other_bands

BIG = (b"II+\0", b"MM\0+")
STARTS = (b"II*\0", b"MM\0*", *BIG)
ORIENTATION, GDAL_NODATA, ICC_PROFILE = 274, 42113, 34675  # tags
BITS, PHOTOMETRIC, SAMPLES, PLANES, EXTRA_SAMPLES, SAMPLE_FORMAT = 258, 262, 277, 284, 338, 339
MIN_IS_WHITE, MIN_IS_BLACK, RGB = 0, 1, 2  # photometric interpretations of numbers as they are
COLOUR_NAMES = {"SEPARATED": "CMYK"}  # where TIFF has a name of its own
UNSPECIFIED = 0  # of the extra samples: a band without a meaning
PLAIN = {MIN_IS_WHITE: 1, MIN_IS_BLACK: 1, RGB: 3}  # photometric interpretation -> samples that are colours
ASSOCIATED, UNASSOCIATED = 1, 2  # alpha among the extra samples; the first is multiplied into the colours

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what is damaged is said as the reason of the image


@dataclass(frozen=True)
class _Layout:
    """How the image lies in the file.

    Attributes:
        height, width: in pixels.
        bands: how many there are.
        axis: of the bands in what is decoded; None where there is one, without an axis.
        page: the only page to decode; None for all of the series.
        samples: whether the bands are the samples of each pixel, rather than pages.
    """

    height: int
    width: int
    bands: int
    axis: int | None
    page: int | None
    samples: bool


def is_plain(file: IO[bytes], channels: int) -> bool:
    """Whether a TIFF file is gray or RGB of 8 bits, perhaps with alpha; False also of what needs a closer look.

    Pillow reads such a file in full, so that tifffile need not open it too: only the first directory is read here.

    Args:
        file: open, at its beginning.
        channels: of the model.
    """
    head = file.read(8)
    if channels not in COLOURS or head.startswith(BIG):
        return False
    set_up_pillow()
    try:
        tags = ImageFileDirectory_v2(head)
        file.seek(tags.next)
        tags.load(file)
        bits, extra = tags.get(BITS, (1,)), tags.get(EXTRA_SAMPLES, ())
        if max(bits) > 8 or len(set(bits)) > 1 or set(tags.get(SAMPLE_FORMAT, (1,))) != {1}:
            return False
        samples, colours = tags.get(SAMPLES, 1), PLAIN.get(tags.get(PHOTOMETRIC, -1))
        if samples == colours == 1 and not extra:
            return channels == 1 or tags.next == 0  # other pages may be its bands
        is_alpha = extra in ((), (ASSOCIATED,), (UNASSOCIATED,))
        return is_alpha and colours == samples - len(extra) and tags.get(PLANES, 1) == 1
    except Exception:  # of a damaged one
        return False


class TiffImage:
    """A TIFF file, as far as its headers.

    Args:
        file: open.
        name: of the file, for notices.

    Raises:
        DataError: if it is damaged.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        import tifffile  # slow to import, and most data sets have none

        file.seek(0)
        self._tiff = tifffile.TiffFile(file)
        self._name = name
        self._page: Any = self._tiff.pages[0]
        self.count = len(self._tiff.pages)
        if self._page.dtype is None:
            raise DataError("its values are of a type that is not read: give integers or floats.")

    @staticmethod
    def matches(head: bytes) -> bool:
        """Whether a file that begins like this is one."""
        return head.startswith(STARTS)

    def usual(self, channels: int) -> bool:
        """Whether Pillow reads all of it that a model of so many channels takes: 8 bits, and one page."""
        page = self._page
        if channels not in COLOURS or page.bitspersample > 8 or page.sampleformat not in (None, 1):
            return False
        if page.photometric in (MIN_IS_WHITE, MIN_IS_BLACK) and page.samplesperpixel == 1:
            return self._pages_are_bands(channels) is None
        if self._extra_band(channels):
            self._note_extra_band()
        if channels == page.samplesperpixel and not self.colours:  # of which Pillow leaves out those without a meaning
            return page.photometric not in PLAIN
        return page.samplesperpixel <= 4 and page.planarconfig == 1

    def layout(self, channels: int) -> _Layout:
        """How the image of a model of so many channels lies in it.

        Raises:
            DataError: if it has other bands.
        """
        page = self._page
        height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
        if page.imagedepth > 1:
            raise DataError("it is a volume: give one image in each file.")
        if page.photometric not in PLAIN:
            colours = COLOUR_NAMES.get(page.photometric.name, page.photometric.name)
            raise DataError(
                f"its colours are {colours}, which are read with 8 bits in one plane only: save it as gray or RGB."
            )
        if samples == 1 and (axis := self._pages_are_bands(channels)) is not None:
            return _Layout(height, width, channels, axis, None, False)
        if not fit(samples, channels, self.colours) and not self._extra_band(channels):
            pages = f" in each of {self.count} pages" if self.count > 1 else ""
            raise DataError(other_bands(samples, channels).replace(" band(s)", f" band(s){pages}", 1))
        axis = None if samples == 1 else page.axes.index("S")
        return _Layout(height, width, samples, axis, 0, True)

    @property
    def colours(self) -> bool:
        """Whether the samples are gray, RGB or RGBA."""
        page = self._page
        extra = tuple(map(int, page.extrasamples or ()))
        colours = page.samplesperpixel - len(extra)
        if any(kind not in (ASSOCIATED, UNASSOCIATED) for kind in extra) or len(extra) > 1:
            return False
        return (page.photometric == RGB and colours == 3) or (page.photometric in (0, 1) and colours == 1)

    def size(self, channels: int) -> tuple[int, int]:
        """Width and height of the image for a model of so many channels."""
        layout = self.layout(channels)
        return layout.width, layout.height

    @property
    def num_bytes(self) -> int:
        """Size of what would be decoded, at most."""
        page = self._page
        return math.prod(page.shape) * page.dtype.itemsize * max(1, self.count if page.samplesperpixel == 1 else 1)

    def raster(self, channels: int) -> Raster:
        """The image, decoded.

        Raises:
            DataError: if its values are no numbers, it is sparse, or of other colours than gray and RGB.
        """
        page, layout = self._page, self.layout(channels)
        dtype = np.dtype(page.dtype)
        if dtype.kind not in NUMBERS:
            raise DataError(f"its values are {dtype}: give integers or floats.")
        pages = [page] if layout.page is not None else list(self._tiff.pages)
        if any(0 in each.databytecounts or not each.databytecounts for each in pages):
            raise DataError("parts of it are missing (it is a sparse file): fill them, or leave it out.")
        if layout.page is None:
            parts = [one.asarray(maxworkers=1) for one in self._tiff.series]
            found = parts[0] if len(parts) == 1 else np.stack(parts)
        else:
            found = page.asarray(maxworkers=1)
            if self.count > 1 and not self._reduced():
                say_once(
                    "pages", f"{self._name} has {self.count} pages, of which the first is read, and so have others."
                )
        bands = found[..., None] if layout.axis is None else np.moveaxis(found, layout.axis, -1)
        bands = bands.reshape(layout.height, layout.width, layout.bands)
        if page.photometric == MIN_IS_WHITE:
            bands = _inverted(bands)
        colours = layout.samples and self.colours
        if layout.samples and self._extra_band(channels):
            self._note_extra_band()
            bands, colours = bands[..., :-1], True
        raster = Raster(bands, colours, self._nodata())
        if raster.colours and ASSOCIATED in map(int, page.extrasamples or ()):
            raster = Raster(_divided_by_alpha(bands), True, raster.nodata)
        profile = page.tags.get(ICC_PROFILE)
        if raster.colours and profile is not None:
            raster = deep_to_srgb(raster, bytes(profile.value), self._name)
        orientation = page.tags.get(ORIENTATION)
        return raster if orientation is None else raster.turned(int(orientation.value))

    def _pages_are_bands(self, channels: int) -> int | None:
        """The axis of the bands, where as many pages as the model has channels are its bands; None otherwise."""
        if self.count != channels or channels == 1:
            return None
        # One series of all pages, or of each, as tifffile's own writer makes of pages that are written one by one.
        series, page = self._tiff.series, self._page
        shapes = {1: (channels, *page.shape), channels: page.shape}
        alike = all(
            one.shape == shapes.get(len(series)) and one.axes.endswith("YX") and one.dtype == page.dtype
            for one in series
        )
        return 0 if alike else None

    def _extra_band(self, channels: int) -> bool:
        """Whether it is gray or RGB with one band beside that has no meaning, and the model takes colours alone."""
        page = self._page
        extra = tuple(map(int, page.extrasamples or ()))
        colours = PLAIN.get(page.photometric)
        one = extra == (UNSPECIFIED,) and page.samplesperpixel - 1 == colours
        return one and channels in (1, 3)

    def _note_extra_band(self) -> None:
        say_once(
            "band without a meaning",
            f"{self._name} has a band beside its colours, whose meaning it does not say and which is left out, and so "
            "is that of others like it: --in_channels of so many keeps it.",
        )

    def _reduced(self) -> bool:
        """Whether the other pages are the image at smaller sizes, as in a pyramid, or its mask."""
        return all(page.subfiletype for page in list(self._tiff.pages)[1:])  # type: ignore[union-attr]

    def _nodata(self) -> float | None:
        tag = self._page.tags.get(GDAL_NODATA)
        try:
            return None if tag is None else float(str(tag.value).strip("\0 "))
        except ValueError:
            return None


def _inverted(bands: np.ndarray) -> np.ndarray:
    if bands.dtype.kind == "b":
        return ~bands
    if bands.dtype.kind == "u":
        return np.iinfo(bands.dtype).max - bands
    raise DataError("its lowest value is white (WhiteIsZero), and its highest is not known: save it as BlackIsZero.")


def _divided_by_alpha(bands: np.ndarray) -> np.ndarray:
    """Colours without the alpha that is multiplied into them."""
    alpha = bands[..., -1:].astype(np.float64)
    most = 1.0 if bands.dtype.kind == "f" else float(np.iinfo(bands.dtype).max)
    colour = np.divide(bands[..., :-1] * most, alpha, out=np.zeros(bands[..., :-1].shape), where=alpha > 0)
    colour = colour if bands.dtype.kind == "f" else colour.round().clip(0, most)
    return np.concatenate([colour.astype(bands.dtype), bands[..., -1:]], axis=-1)
