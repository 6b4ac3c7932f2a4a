"""Files that Pillow does not read, or not in full, whatever their names: they are found by how they begin."""

from __future__ import annotations

from typing import IO, Protocol

from .arrays import ArrayFile
from .rasters import Raster
from .tiffs import TiffImage, is_plain

HEAD = 8  # bytes


class DeepFile(Protocol):
    """A file whose header was read."""

    @property
    def num_bytes(self) -> int:
        """Size of what would be decoded, at most."""

    def size(self, channels: int) -> tuple[int, int]:
        """Width and height of the image for a model of so many channels.

        Raises:
            DataError: if it has none for it.
        """

    def raster(self, channels: int) -> Raster:
        """The image, decoded.

        Raises:
            DataError: if it cannot be.
        """


def open_deep(file: IO[bytes], channels: int, name: str) -> DeepFile | None:
    """Read the header of such a file; None of what Pillow reads in full. The position in the file may be changed.

    Args:
        file: open.
        channels: of the model.
        name: of the file, for notices.

    Raises:
        DataError: if it is an array that is damaged, or no image.
    """
    file.seek(0)
    head = file.read(HEAD)
    if ArrayFile.matches(head):
        return ArrayFile(file)
    if TiffImage.matches(head):
        file.seek(0)
        if is_plain(file, channels):
            return None
        try:
            found = TiffImage(file, name)
        except Exception:  # Pillow reads some that are odd, and says of others that they are damaged
            return None
        return None if found.usual(channels) else found
    return None
