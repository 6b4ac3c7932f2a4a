"""Processes that are killed in the middle of what they write."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable


def killed_at(number: int, work: Callable[[], object]) -> bool:
    """Do `work` in a process that is killed at its `number`-th rename; whether there were so many."""
    child = os.fork()
    if child == 0:
        left, replace, rename = [number], os.replace, os.rename

        def counting(real):
            def renamed(*paths):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                real(*paths)

            return renamed

        os.replace, os.rename = counting(replace), counting(rename)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
