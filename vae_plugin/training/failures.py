"""A step that cannot be taken, raised where it is found and told in one place: `checkpoints.stopped`."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..files import naming

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOWER_RATE = "A lower --learning_rate, a longer --lr_warmup_steps, or --mixed_precision no may help"


class StepFailed(RuntimeError):
    """Training cannot continue; nothing was changed by the step that failed.

    Args:
        reason: what went wrong, without its step.
        remedy: what may help.
    """

    def __init__(self, reason: str, remedy: str = LOWER_RATE) -> None:
        super().__init__(reason)
        self.remedy = remedy


@contextmanager
def writing(what: str, path: Path) -> Iterator[None]:
    """Write something of a run.

    Args:
        what: it is, with its article.
        path: where it goes.

    Raises:
        StepFailed: if it cannot be written, as on a full disk.
    """
    try:
        with naming(path):
            yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        place = "" if error.filename is None else f" to {os.fspath(error.filename)}"
        remedy = "Make room on the disk" if error.errno in FULL else f"See that {path} can be written to"
        raise StepFailed(f"{what} cannot be written{place} ({reason})", remedy) from error


class DataFailed(StepFailed):
    """The next images cannot be had."""
