"""Ctrl-C and SIGTERM as a request to save and leave."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator


class InterruptRequest:
    """Notes SIGINT and SIGTERM while active; the training loop asks for them when a step is complete.

    `accelerate launch` does not pass a SIGTERM on to a single child: it dies and leaves the child running. Under it, on
    Linux, the kernel is asked to send SIGTERM here when the launcher is gone. (Not under any other parent: a run
    started with nohup is meant to outlive its shell.)
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> InterruptRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        set_parent_death_signal(signal.SIGTERM)
        return self

    def __exit__(self, *_: object) -> None:
        set_parent_death_signal(0)
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def requested_anywhere(self, accelerator: Accelerator) -> bool:
        """Whether any process was asked; all processes get the same answer."""
        if accelerator.num_processes == 1:
            return self.requested
        flag = torch.tensor(float(self.requested), device=accelerator.device)
        return bool(accelerator.reduce(flag).item())

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


def set_parent_death_signal(number: int) -> None:
    """Have the kernel send `number` to this process when the `accelerate launch` that started it ends; 0 to stop it."""
    parent = Path(f"/proc/{os.getppid()}/cmdline")
    if parent.is_file() and b"accelerate" in parent.read_bytes():
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, number)


def leave_signals_to_the_parent(worker: int) -> None:
    """In a process that loads images: a signal to the whole group must not end it before the parent has saved."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
