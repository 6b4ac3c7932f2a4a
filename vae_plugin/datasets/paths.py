"""Paths of image files: as text in a table, as `file://` URLs, and what may be opened there."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

from ..notices import printable
from .errors import DataError


class RefusedError(DataError):
    """A row that names a file or an address which is not opened; the message says why."""


def as_row(path: str | Path) -> str:
    """The text that stands for a listed file in a table: its path, or a `file://` URL where that is not UTF-8."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return "file://" + quote_from_bytes(os.fsencode(os.path.abspath(text)))
    return text


def regular_file(path: str | Path) -> str:
    """The path, if a regular file is there: a pipe or a device would be waited for, for ever.

    Raises:
        DataError: if it is something else.
        OSError: if there is nothing, or it cannot be looked at.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        error = DataError(f"{printable(str(path))} is not a file but a folder, pipe, socket or device.")
        error.reason = "it is not a file but a folder, pipe, socket or device."
        raise error
    return os.fspath(path)


def lies_under(path: str | Path, root: str | Path) -> bool:
    """Whether a path is a folder or lies in it, symbolic links resolved."""
    real = os.path.realpath(root)
    try:
        return os.path.commonpath([os.path.realpath(path), real]) == real
    except ValueError:  # on different drives
        return False


def local_path(place: str) -> str | None:
    """The local path that a place stands for, or None for an address.

    Raises:
        RefusedError: for a `file://` URL of another machine.
    """
    if "://" not in place:
        return place
    if not place.lower().startswith("file://"):
        return None
    url = urlsplit(place[:7] + place[7:].replace("?", "%3F").replace("#", "%23"))
    if url.netloc not in ("", "localhost"):
        raise RefusedError(f"the row names {shown(place)}, a file on another machine.")
    path = os.fsdecode(unquote_to_bytes(url.path))
    return re.sub(r"^/(?=[A-Za-z]:)", "", path) if os.name == "nt" else path


def shown(name: str) -> str:
    """A name from outside, for a message: quoted, and not longer than a line or two."""
    return repr(name if len(name) <= 200 else name[:200] + "...")
