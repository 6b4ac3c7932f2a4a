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
    """Change a layer so that (z - mean) / std gives its old output for z; both are (D,).

    Where a convolution pads with zeros, that is so for a mean of 0 only.
    """
    mean, std, weight, bias = map(exact, (mean, std, layer.weight, _bias(layer)))
    taps = weight.reshape(*weight.shape[:2], -1)  # of a linear layer, one
    _bias(layer).copy_(rounded_to(layer.weight, bias + taps.sum(2) @ mean))
    layer.weight.copy_(rounded_to(layer.weight, (taps * std[:, None]).reshape(weight.shape)))


def _bias(layer: nn.Linear | nn.Conv2d) -> torch.Tensor:
    if layer.bias is None:
        raise CannotStandardizeError("a layer without a bias cannot absorb a shift.")
    return layer.bias
