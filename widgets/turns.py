"""Messages, handled in the order in which they were sent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Turns:
    """Handles the messages of each sender one at a time, in the order of their numbers.

    A kernel with subshells (ipykernel 7) may hand consecutive messages of a widget to different threads, and the second
    may arrive first: the latest position of a drag would be overwritten by the one before.

    Args:
        handle: called with each message.
    """

    def __init__(self, handle: Callable[..., None]) -> None:
        self._handle = handle
        self._lock = threading.Lock()
        self._next: dict[Any, int] = {}
        self._waiting: dict[Any, dict[int, tuple[Any, ...]]] = {}
        self._busy: set[Any] = set()

    def take(self, sender: Any, number: int, first: bool, *message: Any) -> None:
        """Handle a message and those that waited for it, or let it wait for those before it.

        Args:
            sender: identifies the sequence of numbers.
            number: one more than that of the sender's last message.
            first: whether to stop waiting for earlier ones (there are none, or they may be lost).
            message: arguments of `handle`.
        """
        with self._lock:
            waiting = self._waiting.setdefault(sender, {})
            waiting[number] = message
            if first:
                self._next[sender] = number
                for lost in [n for n in waiting if n < number]:
                    del waiting[lost]
            if sender in self._busy:  # the thread that handles the others goes on with this one
                return
            self._busy.add(sender)
        while True:
            with self._lock:
                turn = self._next.get(sender)
                if turn not in waiting:
                    self._busy.discard(sender)
                    return
                due = waiting.pop(turn)
                self._next[sender] = turn + 1
            try:
                self._handle(*due)
            except BaseException:  # the kernel was interrupted
                with self._lock:
                    self._busy.discard(sender)
                raise
