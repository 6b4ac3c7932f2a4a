"""Sums, means and gathered batches over the processes of a run, in plain torch.

With a single process, tensors come back unchanged. All results are detached and bit-identical in every process.
"""

from __future__ import annotations

import torch
import torch.distributed as dist


def world_size() -> int:
    """Number of processes that train together; 1 outside `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


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
