"""Errors that the command line shows as one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


class UserError(ValueError):
    """Something the user gave cannot work; the message says what was given, what is accepted and what to do."""


class TrainingStopped(RuntimeError):
    """Training cannot go on; the message says why and where the last good checkpoint is."""


class PushError(RuntimeError):
    """The Hub did not take what was sent; the message says why. It can be sent again."""


def exit_status(work: Callable[[], object]) -> int:
    """Do the work of a command.

    The status is 0 when it is done, 1 when training had to stop or the Hub did not take a push, and 2 for what the user
    can correct. Of several processes only the first speaks.
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
    except (TrainingStopped, PushError) as error:
        if speaks:
            kind = "stopped" if isinstance(error, TrainingStopped) else "error"
            print(f"{kind}: {error}", file=sys.stderr)
        return 1
    return 0
