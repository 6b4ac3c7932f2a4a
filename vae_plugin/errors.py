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
    is_main_process = os.environ.get("RANK", "0") == "0"
    try:
        with interrupting():
            work()
    except KeyboardInterrupt as error:
        if is_main_process:
            print(f"interrupted: {error}" if str(error) else "interrupted.", file=sys.stderr)
        return 128 + signal_of(error)
    except UserError as error:
        if is_main_process:
            print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None or error.strerror is None:  # not about one of the user's files
            raise
        if is_main_process:
            print(f"error: {error.filename}: {error.strerror}.", file=sys.stderr)
        return 2
    except (TrainingStopped, PushError) as error:
        if is_main_process:
            kind = "stopped" if isinstance(error, TrainingStopped) else "error"
            print(f"{kind}: {error}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if is_main_process:
            print("error: there is not enough memory for this: give smaller sizes.", file=sys.stderr)
        return 1
    return 0
