"""Images of more than 8 bits or of any number of bands: from the numbers of a file to tensors in [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from ..notices import say_once
from ..wording import number
from .errors import DataError
from .framing import View

Range = tuple[float, float]
KNOWN = {"uint8": (0, 255), "uint16": (0, 65535), "bool": (0, 1)}  # values of a type whose files say their range by it
NUMBERS = "biuf"  # kinds of numpy's types that are values of pixels
COLOURS = (1, 3, 4)  # bands that may be gray, RGB or RGBA
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601, as PIL has it
OPAQUE = 1.0


@dataclass(frozen=True)
class Raster:
    """The numbers of an image.

    Attributes:
        bands: (H, W, C), of a type in `NUMBERS`.
        colours: whether the bands are gray, gray and alpha, RGB or RGBA, rather than of any meaning.
        nodata: the value of pixels that were never measured; None if the file declares none.
    """

    bands: np.ndarray
    colours: bool = False
    nodata: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.bands.shape[1], self.bands.shape[0]

    @property
    def without_alpha(self) -> np.ndarray:
        """The bands without an alpha channel, (H, W, C)."""
        return self.bands[..., :-1] if self.colours and self.bands.shape[-1] in (2, 4) else self.bands

    def known_range(self, given: Range | None) -> Range:
        """The values that become -1 and 1: those that were given, or those of the type.

        Raises:
            DataError: for a type that does not say it.
        """
        if given is not None:
            return given
        kind = self.bands.dtype.name
        if kind not in KNOWN:
            kind = "floats" if self.bands.dtype.kind == "f" else kind
            low, high = number(self.bands.min()), number(self.bands.max())
            raise DataError(
                f"the pixels are {kind} of unknown range, here from {low} to {high}: give it by --value_range LOW HIGH."
            )
        return KNOWN[kind]

    def check(self) -> None:
        """Refuse pixels that hold no number.

        Raises:
            DataError: that counts them.
        """
        if not np.isfinite(self.bands).all():
            count = int((~np.isfinite(self.bands)).any(axis=-1).sum())
            are = "is" if count == 1 else "are"
            raise DataError(f"{count} of its {self._pixels} pixels {are} NaN or infinite: fill them, or leave it out.")
        if self.nodata is not None and (missing := (self.bands == self.nodata).any(axis=-1)).any():
            raise DataError(
                f"{int(missing.sum())} of its {self._pixels} pixels are without data (it declares "
                f"{number(self.nodata)} for them): fill them, or leave it out."
            )

    def scaled(self, channels: int, given: Range | None = None) -> tuple[np.ndarray, bool]:
        """The image as a model takes it.

        Args:
            channels: of the model.
            given: the values that become -1 and 1, where the user says so.

        Returns:
            (H, W, channels), float32 in [-1, 1]; and whether values lay beyond the range, and are clipped.

        Raises:
            DataError: if values are missing, their range is not known, or the number of bands is another one.
        """
        if not fit(self.bands.shape[-1], channels, self.colours):
            raise DataError(other_bands(self.bands.shape[-1], channels))
        self.check()
        low, high = self.known_range(given)
        exact = given is not None or self.bands.dtype.itemsize > 2  # float32 holds what has 16 bits
        values: Any = self.bands.astype(np.float64 if exact else np.float32)
        clipped = bool(values.min() < low or values.max() > high)
        values = (values - low) * (2 / (high - low)) - 1
        if clipped:
            values = values.clip(-1, 1)
        return to_channels(values, channels).astype(np.float32), clipped

    def turned(self, orientation: object) -> Raster:
        """The image turned upright, from an EXIF orientation."""
        bands = self.bands
        if orientation in (5, 6, 7, 8):
            bands = bands.swapaxes(0, 1)
        if orientation in (2, 3, 6, 7):
            bands = bands[:, ::-1]
        if orientation in (3, 4, 7, 8):
            bands = bands[::-1]
        return replace(self, bands=bands)

    @property
    def _pixels(self) -> int:
        return self.bands.shape[0] * self.bands.shape[1]


def fit(bands: int, channels: int, colours: bool) -> bool:
    """Whether an image of so many bands becomes one of so many channels.

    Colours are converted into each other. Of bands without a meaning only a single one, gray, has more channels.
    """
    return bands == channels or (channels in COLOURS and (bands == 1 or (colours and bands <= 4)))


def other_bands(bands: int, channels: int) -> str:
    """The reason why an image of so many bands is refused."""
    takes = f"{channels} channel{'s' if channels > 1 else ''}"
    return f"it has {bands} band(s), and the model takes {takes} (--in_channels)."


def to_channels(values: np.ndarray, channels: int) -> np.ndarray:
    """Convert gray, gray and alpha, RGB or RGBA (H, W, C) in [-1, 1] to 1, 3 or 4 channels; others stay as they are.

    What is transparent is composited on white unless the result has an alpha channel.
    """
    given = values.shape[-1]
    if given == channels:
        return values
    alpha = values[..., -1:] if given in (2, 4) else None
    colour = values[..., : given - 1] if alpha is not None else values
    if channels == 4:
        colour = np.broadcast_to(colour, (*colour.shape[:2], 3))
        return np.concatenate([colour, np.full_like(colour[..., :1], OPAQUE) if alpha is None else alpha], axis=-1)
    if alpha is not None:
        share = (alpha + 1) / 2
        colour = colour * share + (1 - share)
    if channels == 1:
        return colour if colour.shape[-1] == 1 else (colour @ LUMA.astype(colour.dtype))[..., None]
    return np.broadcast_to(colour, (*colour.shape[:2], 3))


def unscaled(values: np.ndarray, value_range: Range, dtype: np.dtype) -> np.ndarray:
    """The inverse of `Raster.scaled`: values in [-1, 1] as a file would have them, whole numbers rounded."""
    low, high = value_range
    found = (values.astype(np.float64).clip(-1, 1) + 1) * ((high - low) / 2) + low
    if dtype.kind == "f":
        return found.astype(dtype)
    if dtype.kind == "b":
        return found >= 0.5
    limits = np.iinfo(dtype)
    return found.round().clip(limits.min, limits.max).astype(dtype)


def note_clipped(raster: Raster, given: Range | None, name: str) -> None:
    """Say once that values of an image lie beyond the range that was given."""
    low, high = raster.known_range(given)
    say_once(
        "clipped values",
        f"{name} has values from {number(raster.bands.min())} to {number(raster.bands.max())}, and those beyond "
        f"--value_range {number(low)} {number(high)} are clipped, of others too.",
    )


def resized(values: np.ndarray, view: View) -> np.ndarray:
    """What is seen of an image (H, W, C) in [-1, 1], float32: each band resized as `transforms` does with 8 bits."""
    if view.as_it_is:
        left, top, right, bottom = map(int, view.box)
        result = values[top:bottom, left:right]
    else:
        bands = [
            np.asarray(
                Image.fromarray(np.ascontiguousarray(band)).resize(view.size, Image.Resampling.LANCZOS, box=view.box)
            )
            for band in np.moveaxis(values, -1, 0)
        ]
        result = np.stack(bands, axis=-1).clip(-1, 1)  # the filter overshoots at edges
    return result[:, ::-1] if view.flip else result
