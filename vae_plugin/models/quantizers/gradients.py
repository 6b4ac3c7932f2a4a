"""Gradient estimators that pass the gradient of a code to the vector it quantises; the value is exactly the code."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

SMALL = 1e-4


def straight_through(vectors: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Codes (N, D) whose gradient goes to `vectors` unchanged (van den Oord et al. 2017, section 3.2)."""
    return _StraightThrough.apply(vectors, codes)


class _StraightThrough(torch.autograd.Function):
    """z + (q - z).detach() without its rounding error and its two temporaries."""

    @staticmethod
    def forward(ctx: Any, vectors: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return codes.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


def rotation(vectors: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Codes (N, D), treated as the vectors rotated and scaled by a constant.

    The gradient is rotated and scaled in the same way (Fifty et al. 2024, "Restructuring Vector Quantization with the
    Rotation Trick", section 4.2). The rotation is undefined if the vector or the code is near zero, or if they point in
    opposite directions; these use the straight-through gradient.
    """
    vectors_norm = vectors.detach().norm(dim=1, keepdim=True)
    codes_norm = codes.detach().norm(dim=1, keepdim=True)
    e = F.normalize(vectors.detach(), dim=1)
    q = F.normalize(codes.detach(), dim=1)
    middle = e + q
    middle_norm = middle.norm(dim=1, keepdim=True)
    r = middle / middle_norm.clamp_min(SMALL)
    inner = lambda a: (vectors * a).sum(1, keepdim=True)  # noqa: E731
    turned = (vectors - 2 * inner(r) * r + 2 * inner(e) * q) * (codes_norm / vectors_norm.clamp_min(SMALL))
    possible = (vectors_norm > SMALL) & (codes_norm > SMALL) & (middle_norm > SMALL)
    return _value_and_gradient(codes, torch.where(possible, turned, vectors))


def _value_and_gradient(value: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    # gradient - gradient.detach() is exactly 0, so the value has no rounding error, unlike z + (q - z).
    return value.detach() + (gradient - gradient.detach())


GRADIENTS = {"straight_through": straight_through, "rotation": rotation}
