"""The one door to image files: whoever opens an image, and makes a tensor of it, does it by an `ImageReader`."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ..notices import printable
from .colours import note_range_of_16_bits
from .errors import DataError
from .formats import HEIC_EXTRA, formats, is_heic, usual_formats
from .framing import ViewOf
from .paths import RefusedError, regular_file
from .places import Places
from .rules import LATEST, DataRules
from .transforms import to_tensor

MAX_PIXELS = 178_956_970  # where Pillow itself refuses an image, and release 0.1 did
MOST_BYTES = 8  # of an encoded image for each pixel, and
MOST_BYTES_BESIDE = 1 << 24  # beside the pixels

Source = str | Path | bytes | Image.Image | Mapping[str, Any] | None


@dataclass(frozen=True)
class ImageReader:
    """How image files are opened and become tensors.

    Everything that may go wrong with an image, from its name to its last pixel, is a `DataError` of one sentence. Only
    regular files are opened, in the formats of `formats`.

    Attributes:
        rules: by which files become images.
        max_pixels: largest number of pixels of an image. A file of a few bytes can claim any size, and would take
            the memory for it.
        places: what may be opened where a row names its image instead of holding it.
    """

    rules: DataRules = LATEST
    max_pixels: int = MAX_PIXELS
    places: Places = field(default_factory=Places)

    def __post_init__(self) -> None:
        if self.max_pixels < 1:
            raise DataError(f"max_image_pixels is {self.max_pixels}: give at least 1.")

    def open(self, source: Source) -> Image.Image:
        """Open and decode an image as the file has it: in its own mode, not yet turned upright.

        Args:
            source: a path; the bytes of a file; a PIL image; or the value of a row, a mapping with "bytes" or "path".

        Raises:
            DataError: if it cannot be read.
        """
        with one_sentence(_name(source)):
            return self._open(source)

    def tensor(self, source: Source, channels: int, view_of: ViewOf | None = None) -> torch.Tensor:
        """Convert an image to float32 (C, H, W) in [-1, 1]; see `transforms.to_tensor`.

        Args:
            source: see `open`.
            channels: 1 (gray), 3 (RGB) or 4 (RGBA).
            view_of: width and height of the upright image -> what is seen of it, such as the `view` of a `Framing`;
                None for the whole image at its own size.

        Raises:
            DataError: if it cannot be read, or its pixels have no known range.
        """
        name = _name(source)
        with one_sentence(name):
            return to_tensor(self._open(source), channels, view_of, self.rules, name)

    def encoded(self, source: Source) -> bytes:
        """The bytes of an image file.

        Args:
            source: see `open`, but no PIL image.

        Raises:
            DataError: if they cannot be read.
        """
        with one_sentence(_name(source)):
            found = self._find(source)
            return found if isinstance(found, bytes) else Path(found).read_bytes()

    def content(self, source: Source) -> str:
        """SHA-256 of the bytes of an image file; empty if they cannot be read."""
        try:
            return hashlib.sha256(self.encoded(source)).hexdigest()
        except DataError:
            return ""

    def size(self, source: Source) -> tuple[int, int]:
        """Width and height of an image as the file has it, from its header alone.

        Raises:
            DataError: if the file is not an image, or a larger one than is read.
        """
        with one_sentence(_name(source)), self._header(source) as image:
            return image.size

    def _open(self, source: Source) -> Image.Image:
        with self._header(source) as image:
            sixteen_bits = image.mode in ("RGB", "RGBA") and ";16" in str(getattr(image, "tile", ""))
            image.load()
            if sixteen_bits:  # of which Pillow keeps the upper 8
                note_range_of_16_bits(int(np.asarray(image)[..., :3].max()), 255, _name(source))
            return image

    @contextmanager
    def _header(self, source: Source) -> Iterator[Image.Image]:
        if isinstance(source, Image.Image):
            yield self._within_limit(source)
            return
        found = self._find(source)
        with io.BytesIO(found) if isinstance(found, bytes) else open(found, "rb") as file:
            yield self._identify(file)

    def _find(self, source: Source) -> str | Path | bytes:
        """The path of the file, or its bytes."""
        found: Any = source
        if isinstance(source, Mapping):
            found = source["bytes"] if source.get("bytes") is not None else (source.get("path") or None)
            found = self.places.find(found, self._most_bytes) if isinstance(found, str) else found
        if not isinstance(found, (str, Path, bytes)):
            raise DataError("the row holds no image.")
        if not isinstance(found, bytes) and (size := os.stat(regular_file(found)).st_size) > self._most_bytes:
            raise DataError(
                f"it has {size} bytes, which no image of {self.max_pixels} pixels has (--max_image_pixels)."
            )
        return found

    @property
    def _most_bytes(self) -> int:
        return self.max_pixels * MOST_BYTES + MOST_BYTES_BESIDE

    def _identify(self, file: Any) -> Image.Image:
        if Image.MAX_IMAGE_PIXELS is not None and self.max_pixels > Image.MAX_IMAGE_PIXELS:
            Image.MAX_IMAGE_PIXELS = self.max_pixels  # Pillow's own limit, of the process, must not be the lower one
        try:
            return self._within_limit(Image.open(file, formats=formats(self.rules)))
        except UnidentifiedImageError:
            file.seek(0)
            if "HEIF" not in usual_formats() and is_heic(file.read(12)):
                raise DataError(f"it is HEIC, which needs another package ({HEIC_EXTRA}).") from None
            raise DataError(f"it is damaged, or none of {', '.join(usual_formats())}.") from None
        except Image.DecompressionBombError:
            raise self._too_large("more than that") from None

    def _within_limit(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        if width * height > self.max_pixels:
            raise self._too_large(f"{width} x {height} pixels")
        return image

    def _too_large(self, size: str) -> DataError:
        return DataError(f"the limit is {self.max_pixels} pixels (--max_image_pixels), and it claims {size}.")


DEFAULT_READER = ImageReader()


@contextmanager
def one_sentence(name: str) -> Iterator[None]:
    """Turn whatever goes wrong with an image into a `DataError` of one sentence, which begins with its name."""
    try:
        yield
    except RefusedError as error:
        error.reason = "it names a place that is not opened"
        raise
    except Exception as error:  # on damaged files Pillow's decoders raise almost any exception, MemoryError included
        said = getattr(error, "reason", "") or getattr(error, "strerror", "") or str(error) or type(error).__name__
        reason = " ".join(str(said).split())
        found = DataError(f"{printable(name)} cannot be read as an image: {reason}")
        found.reason = reason
        raise found from error


def _name(source: Source) -> str:
    if isinstance(source, Mapping):
        source = source.get("path") if source.get("bytes") is None else source["bytes"]
    if isinstance(source, bytes):
        return f"these {len(source)} bytes"
    if isinstance(source, (str, Path)):
        return str(source)
    return getattr(source, "filename", None) or "the image"
