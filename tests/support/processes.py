"""Several processes that talk through gloo, started from one that has imported everything."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def together(work: Callable[..., None], *arguments: Any, seconds: float = 300, preload: Sequence[str] = ()) -> None:
    """Run `work(rank, *arguments)` in two processes, whose collective operations time out after `seconds`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # A fork server imports everything only once, in half the time of two fresh interpreters.
    method = "forkserver" if "forkserver" in mp.get_all_start_methods() else "spawn"
    if method == "forkserver":
        mp.get_context(method).set_forkserver_preload(list(preload))
    mp.start_processes(_joined, (port, seconds, work, arguments), nprocs=2, start_method=method)


def _joined(rank: int, port: int, seconds: float, work: Callable[..., None], arguments: Sequence[Any]) -> None:
    torch.set_num_threads(1)
    store, timeout = f"tcp://127.0.0.1:{port}", timedelta(seconds=seconds)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=timeout)
    work(rank, *arguments)
    dist.destroy_process_group()
