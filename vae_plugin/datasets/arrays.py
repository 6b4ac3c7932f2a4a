"""Images in numpy's files, .npy and .npz: the header is read and judged before anything is decoded.

Nothing is unpickled. Which axis holds the channels is decided by the number of channels of the model: (C, H, W) and
(H, W, C) are both read, and a shape that could be either is refused.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from .errors import DataError
from .paths import regular_file
from .rasters import COLOURS, KNOWN, NUMBERS, Raster, fit, other_bands

NPY, NPZ, EMPTY_NPZ = b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06"
ARRAY_ENDINGS = frozenset({".npy", ".npz"})
IMAGE = "image"  # the array of an .npz with several that is read


@dataclass(frozen=True)
class Header:
    """What the header of an .npy says.

    Attributes:
        shape: of the array.
        fortran: whether the first axis varies fastest.
        dtype: of its values.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def num_bytes(self) -> int:
        """Size of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


class ArrayFile:
    """An .npy or .npz file, as far as its header.

    Args:
        file: open.

    Raises:
        DataError: if it holds no array of numbers.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._member: zipfile.ZipInfo | None = None
        self._archive: zipfile.ZipFile | None = None
        file.seek(0)
        head = file.read(len(NPY))
        file.seek(0)
        if not head.startswith(NPY):
            self._archive = _archive(file)
            self._member = _only_array(self._archive)
        with self._opened() as stream:
            self.header = read_header(stream)

    @staticmethod
    def matches(head: bytes) -> bool:
        """Whether a file that begins like this is one."""
        return head.startswith((NPY, NPZ, EMPTY_NPZ))

    @property
    def num_bytes(self) -> int:
        """Size of what would be decoded."""
        return self.header.num_bytes

    def size(self, channels: int) -> tuple[int, int]:
        """Width and height of the image for a model of so many channels; see `channel_axis`."""
        shape = self.header.shape
        axis = channel_axis(shape, channels)
        sides = [side for i, side in enumerate(shape) if i != axis]
        return sides[1], sides[0]

    def raster(self, channels: int) -> Raster:
        """The image, decoded.

        Raises:
            DataError: if the file is cut.
        """
        header = self.header
        with self._opened() as stream:
            read_header(stream)
            content = stream.read(header.num_bytes)
        if len(content) < header.num_bytes:
            raise DataError(f"it is cut: its header promises {header.num_bytes} bytes, and it holds {len(content)}.")
        array = np.frombuffer(content, header.dtype).reshape(header.shape, order="F" if header.fortran else "C")
        return raster_of(array, channels)

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        if self._archive is not None and self._member is not None:
            with self._archive.open(self._member) as stream:
                yield stream
        else:
            self._file.seek(0)
            yield self._file


def is_image_array(path: str, channels: int, ranged: bool) -> bool:
    """Whether a file is an image with just the bands of a model, by its header; for the arrays beside image files.

    Args:
        path: of the file.
        channels: of the model.
        ranged: whether the range of values was given, which some types need.
    """
    try:
        with open(regular_file(path), "rb") as file:
            header = ArrayFile(file).header
            axis = channel_axis(header.shape, channels)
            bands = 1 if axis is None else header.shape[axis]
            return bands == channels and (ranged or header.dtype.name in KNOWN)
    except (DataError, OSError):
        return False


def read_header(stream: IO[bytes]) -> Header:
    """Read the header of an .npy, and stand behind it.

    Raises:
        DataError: if its values are no numbers, or it is damaged.
    """
    try:
        version = npy.read_magic(stream)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            raise DataError(f"it is an .npy of version {version[0]}.{version[1]}: 1.0 and 2.0 hold numbers.")
        shape, fortran, dtype = read(stream)
    except DataError:
        raise
    except Exception as error:  # what a damaged header raises depends on where it is damaged
        raise DataError(f"the header of its array is damaged ({error}).") from error
    if min(shape, default=0) < 0:
        raise DataError(f"the header of its array is damaged (it has the shape {shape}).")
    check_dtype(dtype)
    return Header(shape, fortran, dtype)


def check_dtype(dtype: np.dtype) -> None:
    """Refuse what is no value of a pixel.

    Raises:
        DataError: for complex numbers, objects, structures, text and dates.
    """
    if dtype.kind not in NUMBERS:
        name = "Python objects, which are not opened" if dtype.hasobject else str(dtype)
        raise DataError(f"its values are {name}: give integers or floats.")


def channel_axis(shape: Sequence[int], channels: int) -> int | None:
    """Which axis of an array holds the channels of an image; None of gray (H, W).

    Args:
        shape: of the array.
        channels: of the model: the axis is the first or the last, whichever has so many, or holds gray for a model of
            colours.

    Raises:
        DataError: if it is neither, could be both, or the shape is of no image.
    """
    listed = f"({', '.join(map(str, shape))})"
    if len(shape) not in (2, 3):
        several = ": several images belong into one file each, or into a parquet" if len(shape) > 3 else ""
        raise DataError(f"its array has the shape {listed}, which is neither (H, W), (C, H, W) nor (H, W, C){several}.")
    if 0 in shape:
        raise DataError(f"its array has the shape {listed}, and so no pixels.")
    if len(shape) == 2:
        if not fit(1, channels, colours=False):
            raise DataError(other_bands(1, channels))
        return None
    for bands in (channels, 1):
        ends = [axis for axis in (0, 2) if shape[axis] == bands and fit(bands, channels, colours=False)]
        if len(ends) == 2:
            raise DataError(
                f"its array has the shape {listed}, whose first and last axis could both be the {bands} channel(s): "
                "crop it to other sides."
            )
        if ends:
            return ends[0]
    colour = ", or one for gray" if channels in COLOURS and channels > 1 else ""
    raise DataError(
        f"its array has the shape {listed}, and neither its first nor its last axis has the {channels} channel(s) of "
        f"the model (--in_channels){colour}."
    )


def raster_of(array: np.ndarray, channels: int) -> Raster:
    """An array as an image for a model of so many channels; see `channel_axis`.

    Raises:
        DataError: if it is none.
    """
    check_dtype(array.dtype)
    axis = channel_axis(array.shape, channels)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return Raster(native[..., None] if axis is None else np.moveaxis(native, axis, -1))


def to_npy(array: Any, dtype: np.dtype | None = None) -> bytes | None:
    """The .npy of the array in a row of a table; None if it is none, such as nested lists of different lengths."""
    try:
        found = np.asarray(array, dtype)
    except (TypeError, ValueError, OverflowError):
        return None
    if found.dtype.hasobject or found.ndim == 0:
        return None
    stream = io.BytesIO()
    np.save(stream, found, allow_pickle=False)
    return stream.getvalue()


def _archive(file: IO[bytes]) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise DataError("it is cut or damaged: the list of its arrays, which ends an .npz, is missing.") from error


def _only_array(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The array of an .npz: its only one, or the one named "image".

    Raises:
        DataError: if there is neither.
    """
    found = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
    if len(found) != 1 and IMAGE not in found:
        some = f"the arrays {', '.join(sorted(found)[:8])}" if found else "no array"
        raise DataError(f"it holds {some}: save one array in it, or name that of the image {IMAGE!r}.")
    return found[IMAGE] if IMAGE in found else next(iter(found.values()))
