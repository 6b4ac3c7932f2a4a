"""Folding an affine change of the latents into the layers around them."""

from __future__ import annotations

import torch
from torch import nn


class CannotStandardizeError(ValueError):
    """The latents of this model cannot be shifted and scaled by changing its weights."""


@torch.no_grad()
def fold_into_output(layer: nn.Linear | nn.Conv2d, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Change a layer so that its first D outputs y become (y - mean) / std; mean and std are (D,)."""
    mean, std = mean.to(layer.weight.device, torch.float64), std.to(layer.weight.device, torch.float64)
    weight, bias = layer.weight.double(), _bias(layer).double()
    weight[: len(mean)] /= std.reshape(-1, *[1] * (weight.ndim - 1))
    bias[: len(mean)] = (bias[: len(mean)] - mean) / std
    layer.weight.copy_(weight)
    _bias(layer).copy_(bias)


@torch.no_grad()
def fold_into_input(layer: nn.Linear | nn.Conv2d, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Change a linear layer or 1x1 convolution so that (z - mean) / std gives its old output for z; both are (D,)."""
    mean, std = mean.to(layer.weight.device, torch.float64), std.to(layer.weight.device, torch.float64)
    matrix, bias = layer.weight.double().flatten(1), _bias(layer).double()
    _bias(layer).copy_(bias + matrix @ mean)
    layer.weight.copy_((matrix * std).reshape(layer.weight.shape))


def _bias(layer: nn.Linear | nn.Conv2d) -> torch.Tensor:
    if layer.bias is None:
        raise CannotStandardizeError("a layer without a bias cannot absorb a shift.")
    return layer.bias
