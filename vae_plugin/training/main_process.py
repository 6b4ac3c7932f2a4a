"""Work of the main process that the others wait for, and whose failure is theirs too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from accelerate import Accelerator

from ..models.distributed import on_first_process

T = TypeVar("T")


def on_main(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """What `work` returns on the main process, on all of them, see `on_first_process`.

    Args:
        accelerator: of the run; every process calls this.
        work: does not communicate. What it returns or raises can be pickled.

    Raises:
        Exception: what `work` raised, on every process.
    """
    return on_first_process(work)
