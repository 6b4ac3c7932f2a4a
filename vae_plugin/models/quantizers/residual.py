"""Residual quantisation: Lee et al. 2022, "Autoregressive Image Generation using Residual Quantization"."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .base import Losses, Quantizer
from .gradients import GRADIENTS
from .vector import VectorQuantizer


class ResidualVectorQuantizer(Quantizer):
    """Several codes at every place: each quantises what those before it have left, and their sum is the result.

    The losses are those of the stages, summed: with z - (e_1 + ... + e_d) for each depth d, the paper's eq. 6.

    Args:
        codebook_size: K of each stage.
        dim: channels of the latents.
        num_quantizers: stages; K codes each give K^num_quantizers combinations.
        codebook_dim: numbers in a code. Default: `dim`.
        gradient: of the sum, "straight_through" or "rotation", see `gradients`.
        seed: of k-means and revival; stage i has seed + i.
        options: of each stage, see `VectorQuantizer`.
    """

    def __init__(
        self,
        codebook_size: int,
        dim: int,
        *,
        num_quantizers: int = 4,
        codebook_dim: int | None = None,
        gradient: str = "straight_through",
        seed: int = 0,
        **options: Any,
    ) -> None:
        if num_quantizers < 2:
            raise ValueError(f"num_quantizers is {num_quantizers}: with fewer than 2 use a VectorQuantizer.")
        super().__init__(dim, codebook_dim or dim)
        self.codebook_size = codebook_size
        self.codes_per_position = num_quantizers
        self.gradient = gradient
        self.stages = nn.ModuleList(
            VectorQuantizer(codebook_size, self.code_dim, gradient=gradient, seed=seed + i, **options)
            for i in range(num_quantizers)
        )

    def quantize_vectors(self, tokens: torch.Tensor, update: bool) -> tuple[torch.Tensor, torch.Tensor, Losses]:
        residual, total = tokens, torch.zeros_like(tokens)
        losses: Losses = {}
        indices = []
        for stage in self.stages:
            # As an image of one column: offloading wants the stage's own forward to be called.
            codes, chosen, stage_losses = stage(residual[:, :, None, None], update=update)
            codes = codes[:, :, 0, 0].detach()
            residual, total = residual - codes, total + codes
            indices.append(chosen[:, 0, 0])
            losses = {name: losses.get(name, 0) + loss for name, loss in stage_losses.items()}
        # Of the sum: the gradients of the stages added up would be that of the latents several times.
        quantized = GRADIENTS[self.gradient](tokens, total)
        return quantized, torch.stack(indices, 1), losses

    def _standardize_codes(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        for i in range(len(self.stages)):  # what the first stage leaves has no mean
            self._stage(i).standardize(mean if i == 0 else torch.zeros_like(mean), std)

    def lookup(self, indices: torch.Tensor) -> torch.Tensor:
        codes = [self._stage(i).indices_to_codes(indices[..., i]).movedim(1, -1) for i in range(len(self.stages))]
        return sum(codes[1:], codes[0])

    def _stage(self, i: int) -> VectorQuantizer:
        stage = self.stages[i]
        assert isinstance(stage, VectorQuantizer)
        return stage
