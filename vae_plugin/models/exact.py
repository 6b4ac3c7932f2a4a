"""float64, on the CPU only: some devices have none (Apple's GPUs), and on others it is slow."""

from __future__ import annotations

import torch


def exact(x: torch.Tensor) -> torch.Tensor:
    """The values of a tensor of any shape, on any device, in float64 on the CPU; without a gradient.

    What is summed, folded or compared in float64 goes through here, and back through `rounded_to`.
    """
    return x.detach().cpu().double()  # in this order: the conversion would happen on the device otherwise


def rounded_to(like: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Values of `exact` in the precision of another tensor, and then on its device."""
    return values.to(like.dtype).to(like.device)


def exact_dtype(device: torch.device) -> torch.dtype:
    """The precision to compute in on a device without moving: float64 on the CPU, float32 elsewhere."""
    return torch.float64 if device.type == "cpu" else torch.float32
