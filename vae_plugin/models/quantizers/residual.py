"""Residual quantisation: Lee et al. 2022, "Autoregressive Image Generation using Residual Quantization"."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...arguments import Whole, accepts
from .base import Losses, Quantizer
from .gradients import GRADIENTS
from .vector import VectorQuantizer


class ResidualVectorQuantizer(Quantizer):
    """Quantiser with several codes per position: each stage quantises the residual of the stages before it.

    The result is the sum of the codes. The losses of the stages are summed: with the residual z - (e_1 + ... + e_d) at
    each depth d, this is the paper's eq. 6.

    Args:
        codebook_size: number of codes per stage, K.
        dim: number of latent channels.
        num_quantizers: number of stages, which together have K^num_quantizers combinations of codes.
        codebook_dim: dimension of a code; defaults to `dim`.
        gradient: gradient of the sum, "straight_through" or "rotation", see `gradients`.
        seed: random seed of k-means and revival; stage i uses seed + i.
        options: further arguments of each stage, see `VectorQuantizer`.

    Raises:
        ValueError: if `num_quantizers` is below 2, or `VectorQuantizer` rejects an argument.
    """

    @accepts(
        codebook_size=Whole(1), dim=Whole(1), codebook_dim=Whole(1, optional=True), num_quantizers=Whole(), seed=Whole()
    )
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
            raise ValueError(f"num_quantizers is {num_quantizers}: give at least 2, or use a VectorQuantizer.")
        super().__init__(dim, codebook_dim or dim)
        self.codebook_size = codebook_size
        self.codes_per_position = num_quantizers
        self.gradient = gradient
        self.stages = nn.ModuleList(
            VectorQuantizer(codebook_size, self.code_dim, gradient=gradient, seed=seed + i, **options)
            for i in range(num_quantizers)
        )

    def quantize_vectors(self, vectors: torch.Tensor, update: bool) -> tuple[torch.Tensor, torch.Tensor, Losses]:
        residual, total = vectors, torch.zeros_like(vectors)
        losses: Losses = {}
        indices = []
        for stage in self.stages:
            # Shaped as an image of one pixel, because offloading needs the stage's own `forward` to be called.
            codes, chosen, stage_losses = stage(residual[:, :, None, None], update=update)
            codes = codes[:, :, 0, 0].detach()
            residual, total = residual - codes, total + codes
            indices.append(chosen[:, 0, 0])
            losses = {name: losses.get(name, 0) + loss for name, loss in stage_losses.items()}
        # Taken of the sum: adding up the gradients of the stages would count the latents' gradient several times.
        quantized = GRADIENTS[self.gradient](vectors, total)
        return quantized, torch.stack(indices, 1), losses

    def _standardize_codes(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        for i in range(len(self.stages)):  # residuals after the first stage are not shifted
            self._stage(i).standardize(mean if i == 0 else torch.zeros_like(mean), std)

    def lookup(self, indices: torch.Tensor) -> torch.Tensor:
        codes = [self._stage(i).indices_to_codes(indices[..., i]).movedim(1, -1) for i in range(len(self.stages))]
        return sum(codes[1:], codes[0])

    def _stage(self, i: int) -> VectorQuantizer:
        stage = self.stages[i]
        assert isinstance(stage, VectorQuantizer)
        return stage
