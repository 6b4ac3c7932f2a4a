"""Reparameterised codebook of Zhu et al. 2024, "Addressing Representation Collapse in Vector Quantized Models"."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ...arguments import Real, Whole, accepts
from ..affine import CannotStandardizeError, fold_into_output
from .base import Losses, Quantizer
from .gradients import GRADIENTS
from .search import nearest_code


class SimVectorQuantizer(Quantizer):
    """Quantiser whose codes are fixed random vectors transformed by one learned linear layer ("SimVQ").

    A gradient step changes the layer and therefore all codes, not only the assigned ones, so no code is left behind
    however large the codebook. The losses are those of `VectorQuantizer`: "codebook" (for the layer) and "commitment".

    Args:
        codebook_size: number of codes, K.
        dim: number of latent channels.
        codebook_dim: dimension of a code, D; defaults to `dim`.
        commitment_weight: weight of the commitment loss, beta.
        gradient: "straight_through" or "rotation", see `gradients`.

    Raises:
        ValueError: if `gradient` is unknown.
    """

    frozen_codes: torch.Tensor

    @accepts(codebook_size=Whole(1), dim=Whole(1), codebook_dim=Whole(1, optional=True), commitment_weight=Real(0))
    def __init__(
        self,
        codebook_size: int,
        dim: int,
        *,
        codebook_dim: int | None = None,
        commitment_weight: float = 0.25,
        gradient: str = "straight_through",
    ) -> None:
        if gradient not in GRADIENTS:
            raise ValueError(f"gradient is {gradient!r}: it must be one of {', '.join(GRADIENTS)}.")
        super().__init__(dim, codebook_dim or dim)
        self.codebook_size = codebook_size
        self.commitment_weight = commitment_weight
        self.gradient = gradient
        self.register_buffer("frozen_codes", torch.randn(codebook_size, self.code_dim) / self.code_dim**0.5)
        self.transform = nn.Linear(self.code_dim, self.code_dim)

    def extra_repr(self) -> str:
        return f"{self.codebook_size}, {self.dim}, codebook_dim={self.code_dim}"

    def _standardize_codes(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        if not torch.allclose(std, std[0]):
            raise CannotStandardizeError("codes can only be scaled in all channels by the same number.")
        fold_into_output(self.transform, mean, std)

    def lookup(self, indices: torch.Tensor) -> torch.Tensor:
        return self.transform(F.embedding(indices, self.frozen_codes))

    def quantize_vectors(self, vectors: torch.Tensor, update: bool) -> tuple[torch.Tensor, torch.Tensor, Losses]:
        del update  # the codebook is trained by its gradient alone
        with torch.no_grad():
            codebook = self.transform(self.frozen_codes)
        indices = nearest_code(vectors.detach(), codebook)
        codes = self.lookup(indices)
        losses = {
            "commitment": self.commitment_weight * F.mse_loss(vectors, codes.detach()),
            "codebook": F.mse_loss(codes, vectors.detach()),
        }
        return GRADIENTS[self.gradient](vectors, codes), indices, losses
