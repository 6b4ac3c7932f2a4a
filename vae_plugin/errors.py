"""Errors that the command line reports in one sentence."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

from .signals import interrupting, signal_of


class UserError(ValueError):
    """A mistake in the input; the message says what was given, what is accepted and what to do."""


class NotFiniteError(UserError):
    """A model gives NaN or infinity, so that there is nothing to show or to measure.

    Args:
        what: that is so, a noun phrase.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.reason = f"{what} is NaN or infinite"
        super().__init__(f"{self.reason}: the weights are damaged, or their precision is too low for this model.")

    def __reduce__(self) -> tuple[type[NotFiniteError], tuple[str]]:
        """As another process gets it."""
        return type(self), (self.what,)


class TrainingStopped(RuntimeError):
    """Training cannot continue; the message says why, and where the last good checkpoint is."""


class PushError(RuntimeError):
    """The Hub did not accept a push; the message says why. Pushing again is safe."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, NumPy or the system had no memory for what was asked, in the words of each."""
    words = (
        "not enough memory",
        "can't allocate memory",
        "out of memory",
        "Storage size calculation overflowed",
        "numel: integer multiplication overflow",
    )
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and type(error).__module__.partition(".")[0] in ("builtins", "torch")
        and any(word in str(error) for word in words)
    )


def exit_status(work: Callable[[], object]) -> int:
    """Run a command and report its failure in one sentence, on the main process only.

    Returns:
        0 on success, 1 if training stopped, the Hub refused a push or there is no memory left, 2 for a mistake that the
        user can correct, and 128 + N if signal N ended the command.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that it has no characters for must not end the work
            stream.reconfigure(errors="backslashreplace")
    try:
        with interrupting():
            work()
    except (Exception, KeyboardInterrupt) as error:
        reported = _reported(error)
        if reported is None:
            raise
        status, sentence = reported
        if os.environ.get("RANK", "0") == "0":
            print(sentence, file=sys.stderr)
        return status
    return 0


def _reported(error: BaseException) -> tuple[int, str] | None:
    """Exit status and sentence of an error; None for a defect of the program, whose traceback is wanted."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal_of(error), f"interrupted: {error}" if str(error) else "interrupted."
    if isinstance(error, UserError):
        return 2, f"error: {error}"
    if isinstance(error, OSError):  # else it is not about one of the user's files
        named = error.filename is not None and error.strerror is not None
        return (2, f"error: {error.filename}: {error.strerror}.") if named else None
    if isinstance(error, TrainingStopped):
        return 1, f"stopped: {error}"
    if isinstance(error, PushError):
        return 1, f"error: {error}"
    if is_out_of_memory(error):
        return 1, "error: there is not enough memory for this: give smaller sizes."
    return None
