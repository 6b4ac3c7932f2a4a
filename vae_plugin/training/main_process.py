"""Work of the main process that the others wait for, and whose failure is theirs too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from accelerate import Accelerator

from ..models.distributed import objects_over_processes

T = TypeVar("T")


def on_main(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """What `work` returns on the main process, on all of them, however long it takes.

    Args:
        accelerator: of the run; every process calls this.
        work: does not communicate. What it returns or raises can be pickled.

    Raises:
        Exception: what `work` raised, on every process, so that none waits for one that has left.
    """
    outcome: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            outcome[0] = work()
        except Exception as error:
            outcome[1] = error
    outcome = objects_over_processes(outcome)[0]
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
