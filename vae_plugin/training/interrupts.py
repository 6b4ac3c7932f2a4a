"""Ctrl-C, SIGTERM and SIGHUP as a request to save and leave."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import torch
from accelerate import Accelerator

from ..signals import ENDING, handling


class InterruptRequest:
    """Notes the first signal while active; the training loop asks for it when a step is complete.

    `accelerate launch` does not pass a SIGTERM on to a single child: it dies and leaves the child running. Under it, on
    Linux, the kernel is asked to send SIGTERM here when the launcher is gone. (Not under any other parent: a run
    started with nohup is meant to outlive its shell.)

    Attributes:
        ended_by: number of the signal that ended the run, once all processes have agreed on it.
    """

    def __init__(self) -> None:
        self.ended_by: int | None = None
        self._noted: int | None = None
        self._active = ExitStack()

    def __enter__(self) -> InterruptRequest:
        self._active.enter_context(handling(self._note, ENDING))
        if threading.current_thread() is threading.main_thread():
            set_parent_death_signal(signal.SIGTERM)
            self._active.callback(set_parent_death_signal, 0)
        return self

    def __exit__(self, *_: object) -> None:
        self._active.close()

    def requested_anywhere(self, accelerator: Accelerator) -> bool:
        """Whether any process was asked; all processes get the same answer."""
        noted = self._noted or 0
        if accelerator.num_processes > 1:
            noted = int(accelerator.gather(torch.tensor([noted], device=accelerator.device)).max())
        self.ended_by = noted or None
        return self.ended_by is not None

    def _note(self, number: int) -> None:
        self._noted = self._noted or number


def set_parent_death_signal(number: int) -> None:
    """Have the kernel send `number` to this process when the `accelerate launch` that started it ends; 0 to stop it."""
    parent = Path(f"/proc/{os.getppid()}/cmdline")
    if parent.is_file() and b"accelerate" in parent.read_bytes():
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, number)
