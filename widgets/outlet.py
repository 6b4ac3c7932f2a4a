"""What goes to the front end: messages to the open views, and state that every view finds."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import anywidget

from vae_plugin.errors import UserError

LONGEST = 600  # characters of an error


class Outlet:
    """The way to the front end.

    Args:
        widget: the lab's widget.
    """

    def __init__(self, widget: anywidget.AnyWidget) -> None:
        self._widget = widget

    def send(self, content: dict[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Send a message to the open views; bytes travel beside it."""
        if self._widget.comm is not None:
            self._widget.send(sendable(content), list(buffers))

    def publish(self, **state: Any) -> None:
        """Set state that open views hear of and later ones find: each name is a synced trait without its "_"."""
        for name, value in state.items():
            self._widget.set_trait(f"_{name}", sendable(value))

    def reply(self, tag: Any, content: dict[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Answer a request."""
        self.send({"kind": "reply", **(tag or {}), **content}, buffers)

    def drop(self, tag: Any) -> None:
        """Tell the sender of a request that no answer will come."""
        if tag is not None:
            self.send({"kind": "dropped", **tag})

    def fail(self, error: Exception) -> None:
        """Show an error in one sentence."""
        self.send({"kind": "error", "text": sentence(error)})


def sentence(error: BaseException) -> str:
    """An exception as one sentence."""
    words = plain_words(str(error).split("\n")[0])
    if len(words) > LONGEST:  # such as of a name
        words = f"{words[: LONGEST // 2]} … {words[-LONGEST // 2 :]}"
    if isinstance(error, KeyError):
        words = words.strip("'\"")
    if isinstance(error, UserError) and words:
        return words
    return f"{type(error).__name__}: {words or 'no reason was given'}"


def plain_words(text: str) -> str:
    """Text in one line, without control characters and halves of characters (as in names of files that are no text)."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", whole(text)).strip()


def sendable(value: Any) -> Any:
    """A value that JSON can hold: null for NaN and infinity, whole characters only."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {sendable(key): sendable(item) for key, item in value.items()}
    return [sendable(item) for item in value] if isinstance(value, (list, tuple)) else value


def whole(text: str) -> str:
    """Text with halves of characters (surrogates) escaped, which no file and no message can hold."""
    return text.encode("utf-8", "backslashreplace").decode()
