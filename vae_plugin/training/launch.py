"""The processes that `accelerate launch` was asked for and did not start."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

import psutil
from accelerate.commands.config import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from .interrupts import set_parent_death_signal

_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def start_missing_processes(module: str, arguments: Sequence[str]) -> None:
    """Under `accelerate launch --cpu --num_processes N`, start the N processes; otherwise do nothing.

    Without MPI that launcher starts one process whatever N is, and a run that was meant for N would silently train on
    one N-th of the batch. This process is then replaced by torch's launcher of N processes, which talk through gloo.

    Args:
        module: to run in each of them, as with `python -m`.
        arguments: its command line.
    """
    processes = _processes_asked_for()
    if processes > 1:
        set_parent_death_signal(signal.SIGTERM)  # survives the replacement
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m", module]
        os.execv(sys.executable, [sys.executable, *launcher, *arguments])


def _processes_asked_for() -> int:
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    if not on_cpu or any(name in os.environ for name in _RANK_VARIABLES):
        return 1
    try:
        parent = psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        return 1
    start = next(
        (i for i, word in enumerate(parent) if "accelerate" in os.path.basename(word) or "launch" in word), None
    )
    if start is None or not any("accelerate" in word for word in parent):
        return 1
    words = parent[start + 1 :]
    launch, _ = launch_command_parser().parse_known_args(words[1:] if words[:1] == ["launch"] else words)
    if launch.num_processes is not None:
        return launch.num_processes
    try:
        return load_config_from_file(launch.config_file).num_processes or 1
    except (OSError, ValueError):
        return 1
