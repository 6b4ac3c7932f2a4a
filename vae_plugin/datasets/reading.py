"""The one door to image files: whoever opens an image, and makes a tensor of it, does it by an `ImageReader`."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from ..notices import printable
from .colours import note_range_of_16_bits
from .decoded import Decoded, reduction, tensors_of
from .deep import DeepFile, open_deep
from .depth import deep_colours, is_deep, raster_of_bands, raster_of_colours, raster_of_image
from .errors import DataError
from .formats import HEIC_EXTRA, formats, is_heic, usual_formats
from .framing import Size, ViewOf
from .paths import RefusedError, regular_file
from .places import Places
from .plain_png import plain_pixels
from .rasters import Range, Raster, note_clipped
from .rules import LATEST, DataRules
from .transforms import MODES, convert, upright, upright_size

MAX_PIXELS = 178_956_970  # where Pillow itself refuses an image, and release 0.1 did
MOST_BYTES = 8  # of an encoded image for each pixel, and
MOST_BYTES_BESIDE = 1 << 24  # beside the pixels
KEPT_BLOCKS = 4  # of 16 MiB, of the memory of images that are gone

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
        value_range: the values of files that become -1 and 1, lower and upper; those beyond are clipped, and told
            about. None for what the type of the values says: 0 to 255 of 8 bits, 0 to 65535 of 16.
    """

    rules: DataRules = LATEST
    max_pixels: int = MAX_PIXELS
    places: Places = field(default_factory=Places)
    value_range: Range | None = None

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
            channels: 1 (gray), 3 (RGB), 4 (RGBA) or the number of bands that the image has.
            view_of: width and height of the upright image -> what is seen of it, such as the `view` of a `Framing`;
                None for the whole image at its own size.

        Raises:
            DataError: if it cannot be read, or its pixels have no known range.
        """
        return self.tensor_and_clipped(source, channels, view_of)[0]

    def tensor_and_clipped(
        self, source: Source, channels: int, view_of: ViewOf | None = None
    ) -> tuple[torch.Tensor, bool]:
        """As `tensor`, and whether values lay beyond `value_range`."""
        decoded = self.decode(source, channels, view_of)
        with one_sentence(_name(source)):
            return tensors_of([decoded.seen(view_of, self.rules)])[0], decoded.clipped

    def decode(self, source: Source, channels: int, view_of: ViewOf | None = None) -> Decoded:
        """Decode an image, a large JPEG no larger than the view needs it.

        Args:
            source: see `open`.
            channels: see `tensor`.
            view_of: see `tensor`.

        Raises:
            DataError: see `tensor`.
        """
        name = _name(source)
        with one_sentence(name):
            encoded = source.get("bytes") if isinstance(source, Mapping) else source
            if isinstance(encoded, bytes) and self.value_range is None:
                pixels = plain_pixels(encoded, channels, self.max_pixels)
                if pixels is not None:
                    return Decoded(pixels, (pixels.shape[1], pixels.shape[0]))
            found, whole, factor = self._decode(source, channels, name, view_of)
            if isinstance(found, Raster):
                values, clipped = self._scaled(found, channels, name)
                return Decoded(values, found.size, clipped=clipped)
            image = convert(found, channels, self.rules, name)
            return Decoded(image, whole or image.size, factor, isinstance(found, JpegImageFile))

    def raster(self, source: Source, channels: int) -> Raster | None:
        """The numbers of an image, for a model of so many channels; None of photographs of 8 bits.

        Raises:
            DataError: if it cannot be read.
        """
        name = _name(source)
        with one_sentence(name):
            found = self._decode(source, channels, name, None)[0]
            return found if isinstance(found, Raster) else None

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

    def size(self, source: Source, channels: int = 3, as_seen: bool = False) -> tuple[int, int]:
        """Width and height of an image from its header alone.

        Args:
            source: see `open`.
            channels: of the model, by which the axes of an array are known.
            as_seen: whether turned as EXIF says, rather than as the file has it.

        Raises:
            DataError: if the file is not an image for such a model, or a larger one than is read.
        """
        with one_sentence(_name(source)):
            if isinstance(source, Image.Image):
                return self._within_limit(source).size
            with self._file(source) as file:
                if self.rules.keep_depth and (deep := open_deep(file, channels, _name(source))) is not None:
                    self._check_size(deep, channels)
                    return deep.size(channels)
                file.seek(0)
                image = self._identify(file)
                return upright_size(image) if as_seen else image.size

    def _decode(
        self, source: Source, channels: int, name: str, view_of: ViewOf | None
    ) -> tuple[Image.Image | Raster, Size | None, int]:
        """The image of a model of so many channels: Pillow's where that has all of it, and the numbers otherwise.

        Of one that was decoded smaller also its whole size when upright, and the factor.
        """
        if not self.rules.keep_depth:
            return self._open(source), None, 1
        whole, factor = None, 1
        if isinstance(source, Image.Image):
            image = self._loaded(self._within_limit(source), name)
        else:
            with self._file(source) as file:
                deep = open_deep(file, channels, name)
                if deep is not None:
                    self._check_size(deep, channels)
                    return self._eight_bits(deep.raster(channels), channels), None, 1
                file.seek(0)
                image = self._identify(file)
                if (colours := deep_colours(partial(self.encoded, source), image, name)) is not None:
                    return raster_of_colours(colours, image, name), None, 1
                if view_of is not None and channels in MODES and self.value_range is None:
                    whole, factor = self._reduce(image, view_of)
                image = self._loaded(image, name)
        if is_deep(image):
            return raster_of_image(image, name), None, 1
        if channels in MODES and self.value_range is not None:
            return raster_of_bands(convert(image, channels, self.rules, name)), None, 1
        return (image if channels in MODES else raster_of_bands(upright(image))), whole, factor

    def _reduce(self, image: Image.Image, view_of: ViewOf) -> tuple[Size | None, int]:
        """Have a JPEG decoded smaller where a view needs no more; its whole size when upright, and the factor."""
        if not (self.rules.reduce_jpegs and isinstance(image, JpegImageFile)):
            return None, 1
        size, width = upright_size(image), image.width
        factor = reduction(view_of(size), self.rules)
        if factor > 1:
            image.draft(image.mode, (image.width // factor, image.height // factor))
        return (size, factor) if image.width < width else (None, 1)

    def _eight_bits(self, raster: Raster, channels: int) -> Image.Image | Raster:
        """Gray and colours of 8 bits as Pillow would have read them, so that they become the same whatever the file."""
        bands = raster.bands
        if bands.dtype != np.uint8 or self.value_range is not None or channels not in MODES or bands.shape[-1] > 4:
            return raster
        raster.check()
        return Image.fromarray(np.ascontiguousarray(bands[..., 0] if bands.shape[-1] == 1 else bands))

    def _scaled(self, raster: Raster, channels: int, name: str) -> tuple[np.ndarray, bool]:
        if self.value_range is None and raster.bands.dtype == np.uint16:
            note_range_of_16_bits(int(raster.without_alpha.max()), 65535, name)
        values, clipped = raster.scaled(channels, self.value_range)
        if clipped:
            note_clipped(raster, self.value_range, name)
        return values, clipped

    def _check_size(self, deep: DeepFile, channels: int) -> None:
        """Refuse an image that is too large, by its header.

        Raises:
            DataError: if it is.
        """
        width, height = deep.size(channels)
        if width * height > self.max_pixels:
            raise self._too_large(f"{width} x {height} pixels")
        if deep.num_bytes > self._most_bytes:
            raise DataError(
                f"it claims {deep.num_bytes} bytes, more than an image of {self.max_pixels} pixels has "
                "(--max_image_pixels)."
            )

    def _open(self, source: Source) -> Image.Image:
        if isinstance(source, Image.Image):
            return self._loaded(self._within_limit(source), _name(source))
        with self._file(source) as file:
            return self._loaded(self._identify(file), _name(source))

    def _loaded(self, image: Image.Image, name: str) -> Image.Image:
        # Otherwise Pillow takes the memory of each image anew, which is a third of the time of large ones.
        if Image.core.get_blocks_max() < KEPT_BLOCKS and "PILLOW_BLOCKS_MAX" not in os.environ:
            Image.core.set_blocks_max(KEPT_BLOCKS)
        sixteen_bits = image.mode in ("RGB", "RGBA") and ";16" in str(getattr(image, "tile", ""))
        image.load()
        if sixteen_bits:  # of which Pillow keeps the upper 8
            note_range_of_16_bits(int(np.asarray(image)[..., :3].max()), 255, name)
        return image

    @contextmanager
    def _file(self, source: Source) -> Iterator[IO[bytes]]:
        found = self._find(source)
        with io.BytesIO(found) if isinstance(found, bytes) else open(found, "rb") as file:
            yield file

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
            if not file.read(1):
                raise DataError("it is empty.") from None
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
