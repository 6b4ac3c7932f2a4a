"""How the gradient of a code reaches the latent that chose it. The value is the code, exactly, in both."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

SMALL = 1e-4


def straight_through(tokens: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """The code; its gradient is the token's, unchanged (van den Oord et al. 2017, section 3.2): (N, D)."""
    return _StraightThrough.apply(tokens, codes)


class _StraightThrough(torch.autograd.Function):
    """As z + (q - z).detach(), but without its rounding and its two temporaries."""

    @staticmethod
    def forward(ctx: Any, tokens: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return codes.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


def rotation(tokens: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """The code, as the token turned and stretched by a constant rotation: (N, D).

    The gradient is turned and stretched likewise (Fifty et al. 2024, "Restructuring Vector Quantization with the
    Rotation Trick", section 4.2). A token or code near zero, or a code opposite to its token, has no such rotation:
    there it is straight through.
    """
    tokens_norm = tokens.detach().norm(dim=1, keepdim=True)
    codes_norm = codes.detach().norm(dim=1, keepdim=True)
    e = F.normalize(tokens.detach(), dim=1)
    q = F.normalize(codes.detach(), dim=1)
    middle = e + q
    middle_norm = middle.norm(dim=1, keepdim=True)
    r = middle / middle_norm.clamp_min(SMALL)
    inner = lambda a: (tokens * a).sum(1, keepdim=True)  # noqa: E731
    turned = (tokens - 2 * inner(r) * r + 2 * inner(e) * q) * (codes_norm / tokens_norm.clamp_min(SMALL))
    possible = (tokens_norm > SMALL) & (codes_norm > SMALL) & (middle_norm > SMALL)
    return _value_and_gradient(codes, torch.where(possible, turned, tokens))


def _value_and_gradient(value: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    # gradient - gradient.detach() is exactly 0: the value does not pick up its rounding, as in z + (q - z).
    return value.detach() + (gradient - gradient.detach())


GRADIENTS = {"straight_through": straight_through, "rotation": rotation}
