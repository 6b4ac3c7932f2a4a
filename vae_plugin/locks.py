"""The right to write into a folder, which one process at a time has."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import errno
    import fcntl

LOCK = ".lock"
_held: set[tuple[int, int]] = set()  # in this process: a record lock does not keep it out, and ends with any `close`
_guard = threading.Lock()


class FolderLock:
    """A lock on FOLDER/.lock, which the kernel opens when the process ends, however it ends.

    It is a record lock (`fcntl`), and no library's `flock`: processes that load images are forked, would hold that one
    too, and outlive a killed run by seconds in which it could not be continued.

    Args:
        folder: that exists.

    Attributes:
        exists: whether the file system has locks; known once it was taken.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self._file: int | None = None
        self._key = (0, 0)
        self.exists = True

    def take(self) -> bool:
        """Whether nobody else has it. True also on a file system without locks.

        Raises:
            OSError: if the file cannot be written.
        """
        with _guard:
            if self.path.exists() and _key(self.path) in _held:
                return False
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                free = _lock(file)
            except OSError:
                free, self.exists = True, False
            if not free:
                os.close(file)
                return False
            self._file, self._key = file, _key(self.path)
            _held.add(self._key)
            return True

    def release(self) -> None:
        """Give it back, if it was taken."""
        with _guard:
            if self._file is not None:
                os.close(self._file)
                _held.discard(self._key)
                self._file = None


def _key(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _lock(file: int) -> bool:
    """Whether it was free; an OSError where there are no locks."""
    if sys.platform == "win32":
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        return False
    return True
