"""Notices: what a user should know although nothing stops. Each kind is said once."""

from __future__ import annotations

import mmap
import os
import sys
import zlib
from collections.abc import Iterable
from typing import Any, TextIO

_said: Any = mmap.mmap(-1, 1 << 16)  # a flag for each kind, shared with processes that are forked later


def say_once(kind: str, sentence: str) -> None:
    """Print a sentence to stderr, on the main process only, unless one of its kind was printed before.

    Neither do processes that are forked later repeat it, such as those that load images.
    """
    flag = zlib.crc32(kind.encode("utf-8", "backslashreplace")) % len(_said)
    if _said[flag]:
        return
    _said[flag] = 1
    say(sentence)


def say(sentence: str) -> None:
    """Print a sentence to stderr, on the main process only."""
    if os.environ.get("RANK", "0") == "0":
        show(f"note: {sentence}", sys.stderr)


def show(text: str, stream: TextIO | None = None) -> None:
    """Print a line that may hold names from outside, whatever characters the stream has; to stdout by default."""
    stream = stream or sys.stdout
    print(showable(text, stream), file=stream)


def showable(text: str, stream: TextIO) -> str:
    """The text with whatever a stream has no characters for escaped."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return printable(text).encode(encoding, "backslashreplace").decode(encoding)


def some(names: Iterable[str], most: int = 20) -> str:
    """Names in alphabetical order, for a line that must not become endless."""
    listed = sorted(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def printable(text: str) -> str:
    """The text with whatever a terminal would not show as a character escaped, such as bytes that are not UTF-8."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
