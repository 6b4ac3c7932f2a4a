"""Notices: what a user should know although nothing stops. Each kind is said once."""

from __future__ import annotations

import os
import sys
from typing import TextIO

_said: set[str] = set()


def say_once(kind: str, sentence: str) -> None:
    """Print a sentence to stderr, on the main process only, unless one of its kind was printed before.

    Processes that are forked later, such as those that load images, do not repeat it.
    """
    if kind in _said:
        return
    _said.add(kind)
    say(sentence)


def say(sentence: str) -> None:
    """Print a sentence to stderr, on the main process only."""
    if os.environ.get("RANK", "0") == "0":
        show(f"note: {sentence}", sys.stderr)


def show(text: str, stream: TextIO | None = None) -> None:
    """Print a line that may hold names from outside, whatever characters the stream has; to stdout by default."""
    stream = stream or sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(printable(text).encode(encoding, "backslashreplace").decode(encoding), file=stream)


def printable(text: str) -> str:
    """The text with whatever a terminal would not show as a character escaped, such as bytes that are not UTF-8."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
