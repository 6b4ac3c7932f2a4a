"""Finite scalar quantisation: Mentzer et al. 2023, "Finite Scalar Quantization: VQ-VAE Made Simple"."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .base import Losses, Quantizer
from .gradients import straight_through


class FiniteScalarQuantizer(Quantizer):
    """Each of a few numbers is bounded and rounded to one of its levels; the codes are the grid of all combinations.

    There is no codebook to learn, nothing to die, and no loss. Codes lie in [-1, 1].

    Args:
        levels: of each number, 2 to 1000; their product is `codebook_size`. The paper's (table 1): (8, 6, 5) for 2^8,
            (8, 5, 5, 5) for 2^10, (7, 5, 5, 5, 5) for 2^12, (8, 8, 8, 6, 5) for 2^14, (8, 8, 8, 5, 5, 5) for 2^16.
        dim: channels of the latents.

    Raises:
        ValueError: if there is no level, or one is not from 2 to 1000.
    """

    _levels: torch.Tensor
    _steps: torch.Tensor

    def __init__(self, levels: Sequence[int], dim: int) -> None:
        if not levels or min(levels) < 2 or max(levels) > 1000:  # above, the margin of `_bound` reaches one level more
            raise ValueError(f"levels are {tuple(levels)}: give at least one number, each at least 2, at most 1000.")
        super().__init__(dim, len(levels))
        self.levels = tuple(levels)
        self.codebook_size = math.prod(levels)
        self.register_buffer("_levels", torch.tensor(levels), persistent=False)
        steps = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("_steps", torch.tensor(steps), persistent=False)

    def extra_repr(self) -> str:
        return f"{self.levels}, {self.dim}"

    def quantize_vectors(self, tokens: torch.Tensor, update: bool) -> tuple[torch.Tensor, torch.Tensor, Losses]:
        del update  # there is nothing to keep
        bounded = self._bound(tokens)
        digits = bounded.detach().round()
        half = self._levels // 2
        codes = straight_through(bounded / half, digits / half)
        indices = ((digits.long() + half) * self._steps).sum(1)
        return codes, indices, {}

    def _bound(self, z: torch.Tensor) -> torch.Tensor:
        """Into an interval that rounding maps to exactly the levels (the paper's appendix A): (N, len(levels))."""
        half = (self._levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(self._levels % 2 == 0, 0.5, 0.0)
        return torch.tanh(z + (offset / half).atanh()) * half - offset

    def lookup(self, indices: torch.Tensor) -> torch.Tensor:
        half = self._levels // 2
        digits = indices[..., None] // self._steps % self._levels
        return (digits - half) / half
