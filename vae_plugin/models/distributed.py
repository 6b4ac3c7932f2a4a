"""Sums, means and gathered batches over the processes of a run, in plain torch.

With a single process, tensors come back unchanged. All results are detached and bit-identical in every process, but for
the gradient that `gather_with_gradient` leaves to what a process has given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

T = TypeVar("T")

_LONG = timedelta(days=7)
_meetings = count()  # of this process, and so of all: they meet in the same order


def world_size() -> int:
    """Number of processes that train together; 1 outside `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def wait_for_processes() -> None:
    """Return when every process has called this, however long one of them takes.

    Collective operations fail after the time-out of their backend, some minutes. So where one process works while the
    others wait (reading files, drawing, writing), they meet here first: it only asks the store of the process group.
    """
    if world_size() == 1:
        return
    store, number = PrefixStore("vae_plugin", _get_default_store()), next(_meetings)
    if store.add(f"meeting {number}", 1) == world_size():
        store.set(f"all at {number}", "yes")
    store.wait([f"all at {number}"], _LONG)
    if rank() == 0 and number:  # all have left the meeting before
        store.delete_key(f"meeting {number - 1}")
        store.delete_key(f"all at {number - 1}")


def let_communication_end(processes: int) -> None:
    """Let the threads of gloo drop their last tensors, before the objects go that hold the process group.

    torch joins these threads while it holds Python's lock, and a thread that still has a tensor to drop waits for that
    lock: the process would never end. So it is given away for a moment first.
    """
    if processes > 1:
        time.sleep(0.2)


def objects_over_processes(value: Any) -> list[Any]:
    """Picklable values of all processes, in their order; waits however long one of them takes to call this.

    Tensors have to be on the CPU. Unlike the sums below it keeps float64, whatever the processes communicate through.
    """
    if world_size() == 1:
        return [value]
    wait_for_processes()
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def on_first_process(work: Callable[[], T]) -> T:
    """What `work` returns on the first process, on all of them, however long it takes.

    Args:
        work: does not communicate. What it returns or raises can be pickled.

    Raises:
        Exception: what `work` raised, on every process, so that none waits for one that has left.
    """
    outcome: list[Any] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = work()
        except Exception as error:
            outcome[1] = error
    outcome = objects_over_processes(outcome)[0]
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


@torch.no_grad()
def broadcast_from_first(tensors: Iterable[torch.Tensor]) -> None:
    """Write the values that the first process has into the tensors of all."""
    for tensor in tensors if world_size() > 1 else ():
        dist.broadcast(tensor, 0)


@torch.no_grad()
def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Sum of a tensor over all processes, elementwise."""
    if world_size() == 1:
        return tensor.detach()
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


@torch.no_grad()
def mean_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Mean of a tensor over all processes, elementwise."""
    return sum_over_processes(tensor) / world_size()


@torch.no_grad()
def gather_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Concatenate the tensors (N, ...) of all processes, which must have equal shapes: (processes * N, ...)."""
    if world_size() == 1:
        return tensor.detach()
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor.detach().contiguous())
    return torch.cat(parts)


def gather_with_gradient(tensor: torch.Tensor) -> torch.Tensor:
    """The same values as `gather_over_processes`; those of this process keep their gradient.

    Each process computes the whole of what depends on all of them and goes back to its own part. Added up over the
    processes, these gradients are that of one process which has everything; where they are averaged, as by
    `DistributedDataParallel`, multiply by `world_size()` first (see `scale_gradient`).
    """
    if world_size() == 1:
        return tensor
    parts = list(gather_over_processes(tensor).chunk(world_size()))
    parts[rank()] = tensor
    return torch.cat(parts)


def scale_gradient(tensor: torch.Tensor, factor: float) -> torch.Tensor:
    """The same values with a gradient that is multiplied by `factor`."""
    return tensor if factor == 1 else tensor.detach() + factor * (tensor - tensor.detach())


@torch.no_grad()
def rows_over_processes(tensor: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The same as `gather_over_processes(tensor)[rows]`, but only these rows are sent."""
    if world_size() == 1:
        return tensor.detach()[rows]
    local = rows - dist.get_rank() * len(tensor)
    here = (local >= 0) & (local < len(tensor))
    chosen = tensor.new_zeros(len(rows), *tensor.shape[1:])
    chosen[here] = tensor.detach()[local[here]]
    return sum_over_processes(chosen)
