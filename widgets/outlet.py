"""What goes to the front end: messages to the open views, and state that every view finds."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Sequence
from itertools import count
from typing import Any

import anywidget

from vae_plugin.errors import UserError

LONGEST = 600  # characters of an error
MOST_PROBLEMS = 20  # that are kept

_log = logging.getLogger("vae_plugin.widgets")
_numbers = count(1)


class Outlet:
    """The way to the front end.

    Args:
        widget: the lab's widget.
    """

    def __init__(self, widget: anywidget.AnyWidget) -> None:
        self._widget = widget
        self._owed: set[tuple[Any, Any]] = set()
        self._problems: list[dict[str, Any]] = []
        self._lock = threading.RLock()

    def send(self, content: dict[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Send a message to the open views; bytes travel beside it."""
        if self._widget.comm is not None:
            self._widget.send(sendable(content), list(buffers))
        self._owed.discard((content.get("view"), content.get("id")))

    def expect(self, tag: dict[str, Any]) -> None:
        """A request has come, which is owed an answer."""
        if tag["id"] is not None:
            self._owed.add((tag["view"], tag["id"]))

    def owes(self, tag: dict[str, Any]) -> bool:
        """Whether a request has come and has no answer yet."""
        return (tag["view"], tag["id"]) in self._owed

    def publish(self, **state: Any) -> None:
        """Set state that open views hear of and later ones find: each name is a synced trait without its "_"."""
        for name, value in state.items():
            self._widget.set_trait(f"_{name}", sendable(value))

    def reply(self, tag: Any, content: dict[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Answer a request."""
        self.send({"kind": "reply", **(tag or {}), **content}, buffers)

    def drop(self, tag: Any, error: BaseException | None = None) -> None:
        """Tell the sender of a request that no answer will come, and why if it failed.

        Args:
            tag: of the request; None if nobody waits, and an error is kept.
            error: the reason; None if a newer request has overtaken it.
        """
        if tag is not None:
            self.send({"kind": "dropped", **tag})
        if not isinstance(error, Exception):
            return
        if tag is None:
            self.keep(error)
        else:
            self.send({"kind": "error", "text": sentence(error)})

    def keep(self, error: Exception) -> None:
        """Log an error that nobody waits for, and keep it in every view, also later ones, until a user has seen it."""
        words = sentence(error)
        with self._lock:
            if any(problem["text"] == words for problem in self._problems):
                return
            self._problems = [*self._problems[-MOST_PROBLEMS + 1 :], {"number": next(_numbers), "text": words}]
            self.publish(problems=self._problems)
        _log.error("%s", words, exc_info=None if isinstance(error, UserError) else error)

    def seen(self, number: int) -> None:
        """A user has seen an error that was kept."""
        with self._lock:
            self._problems = [problem for problem in self._problems if problem["number"] != number]
            self.publish(problems=self._problems)


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
