"""Sums and means over the processes of a run, as plain torch; identities when there is only one process."""

from __future__ import annotations

import torch
import torch.distributed as dist


def world_size() -> int:
    """Number of processes that train together, 1 outside `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@torch.no_grad()
def mean_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Mean of a detached tensor over all processes; every process gets the same bits."""
    tensor = tensor.detach()
    processes = world_size()
    if processes == 1:
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total / processes
