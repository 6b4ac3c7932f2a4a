"""Errors that the command line shows as one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


class UserError(ValueError):
    """Something the user gave cannot work; the message says what was given, what is accepted and what to do."""


class TrainingStopped(RuntimeError):
    """Training cannot go on; the message says why and where the last good checkpoint is."""


def exit_status(work: Callable[[], object]) -> int:
    """Do the work of a command: 0 when done, 1 when training had to stop, 2 for what the user can correct.

    Of several processes only the first speaks.
    """
    speaks = os.environ.get("RANK", "0") == "0"
    try:
        work()
    except UserError as error:
        if speaks:
            print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None or error.strerror is None:  # not about a file of the user's
            raise
        if speaks:
            print(f"error: {error.filename}: {error.strerror}.", file=sys.stderr)
        return 2
    except TrainingStopped as error:
        if speaks:
            print(f"stopped: {error}", file=sys.stderr)
        return 1
    return 0
