"""Finite scalar quantisation: Mentzer et al. 2023, "Finite Scalar Quantization: VQ-VAE Made Simple"."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ...arguments import Several, Whole, accepts
from .base import Losses, Quantizer
from .gradients import straight_through


class FiniteScalarQuantizer(Quantizer):
    """Quantiser that bounds each channel of a code and rounds it to one of a few levels; the codes form a grid.

    There is no codebook to learn, no dead code and no loss. Codes lie in [-1, 1].

    Args:
        levels: number of levels of each channel of a code, 2 to 1000; `codebook_size` is their product. Table 1 of the
            paper has (8, 6, 5) for 2^8 codes, (8, 5, 5, 5) for 2^10, (7, 5, 5, 5, 5) for 2^12, (8, 8, 8, 6, 5) for
            2^14 and (8, 8, 8, 5, 5, 5) for 2^16.
        dim: number of latent channels.

    Raises:
        ValueError: if `levels` is empty or a level is not between 2 and 1000.
    """

    _levels: torch.Tensor
    _steps: torch.Tensor

    @accepts(levels=Several(Whole(), least=0), dim=Whole(1))
    def __init__(self, levels: Sequence[int], dim: int) -> None:
        if not levels or min(levels) < 2 or max(levels) > 1000:  # beyond 1000 the margin of `_bound` adds a level
            raise ValueError(f"levels is {tuple(levels)}: give at least one level, each between 2 and 1000.")
        super().__init__(dim, len(levels))
        self.levels = tuple(levels)
        self.codebook_size = math.prod(levels)
        self.register_buffer("_levels", torch.tensor(levels), persistent=False)
        steps = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("_steps", torch.tensor(steps), persistent=False)

    def extra_repr(self) -> str:
        return f"{self.levels}, {self.dim}"

    def quantize_vectors(self, vectors: torch.Tensor, update: bool) -> tuple[torch.Tensor, torch.Tensor, Losses]:
        del update  # there are no statistics
        bounded = self._bound(vectors)
        digits = bounded.detach().round()
        half = self._levels // 2
        codes = straight_through(bounded / half, digits / half)
        indices = ((digits.long() + half) * self._steps).sum(1)
        return codes, indices, {}

    def _bound(self, z: torch.Tensor) -> torch.Tensor:
        """Map into an interval that rounding takes to exactly the levels (appendix A): (N, len(levels))."""
        half = (self._levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(self._levels % 2 == 0, 0.5, 0.0)
        return torch.tanh(z + (offset / half).atanh()) * half - offset

    def lookup(self, indices: torch.Tensor) -> torch.Tensor:
        half = self._levels // 2
        digits = indices[..., None] // self._steps % self._levels
        return (digits - half) / half
