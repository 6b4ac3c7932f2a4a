"""Signals that ask a command to end: Ctrl-C, SIGTERM, and SIGHUP of a terminal that is closed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]  # as the OS has


class Interrupted(KeyboardInterrupt):
    """A signal ended the command; the message, if there is one, says how to go on.

    Args:
        number: of the signal.
        advice: a sentence.
    """

    def __init__(self, number: int, advice: str = "") -> None:
        super().__init__(advice)
        self.number = number


def signal_of(error: KeyboardInterrupt) -> int:
    """The number of the signal that raised it."""
    return error.number if isinstance(error, Interrupted) else signal.SIGINT


@contextmanager
def handling(act: Callable[[int], None], signals: list[int]) -> Iterator[None]:
    """Call `act` with the number of a signal instead of what it did before, for the time of a block.

    In a thread that is not the main one nothing changes, for signals are none of its business. Neither do those that
    the process was started to ignore with `nohup`. After SIGHUP nobody reads a terminal, and writing to it would fail:
    what is printed from then on goes nowhere.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def note(number: int, frame: FrameType | None) -> None:
        if number == getattr(signal, "SIGHUP", None):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for descriptor in terminals:
                os.dup2(nowhere, descriptor)
            os.close(nowhere)
        act(number)

    previous: dict[int, Any] = {}
    for number in signals:
        if number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) == signal.SIG_IGN:
            continue
        previous[number] = signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in previous.items():
            if handler is not None:  # of a library in C, which Python cannot set again
                signal.signal(number, handler)


def end_at_once() -> None:
    """Let Ctrl-C end a command of ours at once while it is being imported, where Python would print a traceback.

    Of other programs nothing changes. `interrupting` takes it back.
    """
    program, words = Path(sys.argv[0] if sys.argv else ""), sys.orig_argv
    ours = program.stem == "vae-plugin" or any(
        flag == "-m" and module.split(".")[0] == __package__ for flag, module in pairwise(words)
    )
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def interrupting() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Interrupted`, as Ctrl-C raises KeyboardInterrupt, so that what is half written goes.

    Not in one of several processes: their launcher ends the others when one has failed, and they must not linger.
    """

    def act(number: int) -> None:
        raise Interrupted(number)

    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:  # see `end_at_once`
        signal.signal(signal.SIGINT, signal.default_int_handler)
    of_several = os.environ.get("WORLD_SIZE", "1") != "1"
    with handling(act, [] if of_several else [number for number in ENDING if number != signal.SIGINT]):
        yield


def leave_signals_to_the_parent(worker: int) -> None:
    """In a process that loads images: a signal to the whole group must not end it before the parent has saved."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
