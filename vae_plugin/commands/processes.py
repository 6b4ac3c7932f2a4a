"""The processes that a command runs in: one, or those of `accelerate launch -m vae_plugin.cli COMMAND ...`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from accelerate import PartialState

from ..models.distributed import let_communication_end, rank, wait_for_processes, world_size
from ..training.interrupts import set_parent_death_signal
from ..training.launch import check_processes, has_accelerator, start_missing_processes
from ..training.launch import world_size as launched

T = TypeVar("T")


@contextmanager
def processes(command: str, argv: Sequence[str]) -> Iterator[torch.device]:
    """Yield the device of this process, once it knows of all the others that the launcher was asked for.

    Args:
        command: whose arguments these are.
        argv: the arguments, for processes that accelerate does not start, see `start_missing_processes`.

    Raises:
        UserError: if there are fewer processes than were asked for.
    """
    start_missing_processes("vae_plugin.cli", [command, *argv])
    state = PartialState(cpu=launched() > 1 and not has_accelerator())
    check_processes(state.num_processes)
    set_parent_death_signal(signal.SIGTERM)
    try:
        yield state.device
    finally:
        set_parent_death_signal(0)
        let_communication_end(state.num_processes)


def first_before_others(work: Callable[[], T]) -> T:
    """What `work` returns on this process; the first does it before the others, which find its files in the cache."""
    if world_size() == 1:
        return work()
    if rank():
        wait_for_processes()
    try:
        return work()
    finally:
        if not rank():
            wait_for_processes()
