"""Decoded images that stay in memory, as 8 bits, for the epochs to come."""

from __future__ import annotations

import math
import mmap
import multiprocessing
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .decoded import Decoded
from .errors import DataError
from .framing import Size

FIELDS = 8  # of an entry: where its pixels begin, their height, width and bands, and the rest of `Decoded`
MIB = 1 << 20


class KeptImages:
    """Decoded images by row, the first ones that fit into a given memory.

    The memory is shared with loading processes that are forked from this one, so that they fill it together and once.
    A copy for a process that is started anew keeps nothing: it would take the same memory again.

    Args:
        rows: number of rows of the table.
        limit: bytes of pixels that are kept at most. Memory is only taken as it is filled.

    Raises:
        DataError: if there is no such memory.
    """

    def __init__(self, rows: int, limit: int) -> None:
        self.rows, self.limit = rows, limit
        if not limit:
            return
        try:
            # Not in /dev/shm, which is small in containers.
            self._pixels = np.frombuffer(mmap.mmap(-1, limit), dtype=np.uint8)
            entries = mmap.mmap(-1, (rows * FIELDS + 1) * 8)
        except (OSError, ValueError, OverflowError) as error:
            raise DataError(
                f"there is no memory to keep {limit // MIB} MiB of decoded images in: give a smaller --image_cache_mib."
            ) from error
        numbers = np.frombuffer(entries, dtype=np.int64)
        self._filled, self._entries = numbers[:1], numbers[1:].reshape(rows, FIELDS)
        self._lock = multiprocessing.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return KeptImages, (self.rows, 0)

    def __contains__(self, row: int) -> bool:
        return bool(self.limit) and self._entries[row, 1] > 0

    def get(self, row: int) -> Decoded | None:
        """The image of a row, if it is kept."""
        if not self.limit:
            return None
        with self._lock:
            begin, height, width, bands, *rest = self._entries[row].tolist()
        if not height:
            return None
        pixels = self._pixels[begin : begin + height * width * bands]
        return Decoded(
            pixels.reshape((height, width) if bands == 1 else (height, width, bands)),
            size=(rest[0], rest[1]),
            reduction=rest[2],
            reducible=bool(rest[3]),
        )

    def alike(self, rows: np.ndarray, size: Size) -> np.ndarray | None:
        """The pixels of several images, (B, H, W) or (B, H, W, C), if all are kept and whole and have this size.

        Args:
            rows: (B,).
            size: width and height.
        """
        if not self.limit or not len(rows):
            return None
        with self._lock:
            entries = self._entries[rows]
        shape = (size[1], size[0], int(entries[0, 3]))
        if not (entries[:, 1:7] == (*shape, *size, 1)).all():
            return None
        pixels = sliding_window_view(self._pixels, math.prod(shape))[entries[:, 0]]
        return pixels.reshape(len(rows), *(shape[:2] if shape[2] == 1 else shape))

    def put(self, row: int, image: Decoded) -> None:
        """Keep an image of 8 bits if it fits, and none of its row is kept."""
        if not self.limit or image.has_floats or image.bytes > self.limit - int(self._filled[0]):
            return
        pixels = image.pixels
        height, width, bands = *pixels.shape[:2], pixels.shape[2] if pixels.ndim == 3 else 1
        with self._lock:
            begin, entry = int(self._filled[0]), self._entries[row]
            end = begin + pixels.nbytes
            if end > self.limit or entry[1]:
                return
            self._pixels[begin:end] = pixels.reshape(-1)
            entry[:] = (begin, height, width, bands, *image.size, image.reduction, image.reducible)
            self._filled[0] = end
