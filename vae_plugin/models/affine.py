"""Folding an affine change of the latents into the layers around them."""

from __future__ import annotations

import torch
from torch import nn

from .exact import exact, rounded_to


class CannotStandardizeError(ValueError):
    """The latents of this model cannot be shifted and scaled by changing its weights."""


@torch.no_grad()
def fold_into_output(layer: nn.Linear | nn.Conv2d, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Change a layer so that its first D outputs y become (y - mean) / std; mean and std are (D,)."""
    mean, std, weight, bias = map(exact, (mean, std, layer.weight, _bias(layer)))
    weight[: len(mean)] /= std.reshape(-1, *[1] * (weight.ndim - 1))
    bias[: len(mean)] = (bias[: len(mean)] - mean) / std
    layer.weight.copy_(rounded_to(layer.weight, weight))
    _bias(layer).copy_(rounded_to(layer.weight, bias))


@torch.no_grad()
def fold_into_input(layer: nn.Linear | nn.Conv2d, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Change a linear layer or 1x1 convolution so that (z - mean) / std gives its old output for z; both are (D,)."""
    mean, std, weight, bias = map(exact, (mean, std, layer.weight, _bias(layer)))
    matrix = weight.flatten(1)
    _bias(layer).copy_(rounded_to(layer.weight, bias + matrix @ mean))
    layer.weight.copy_(rounded_to(layer.weight, (matrix * std).reshape(weight.shape)))


def _bias(layer: nn.Linear | nn.Conv2d) -> torch.Tensor:
    if layer.bias is None:
        raise CannotStandardizeError("a layer without a bias cannot absorb a shift.")
    return layer.bias
