"""A reparameterised codebook: Zhu et al. 2024, "Addressing Representation Collapse in Vector Quantized Models"."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..affine import CannotStandardizeError, fold_into_output
from .base import Losses, Quantizer
from .gradients import GRADIENTS
from .search import nearest_code


class SimVectorQuantizer(Quantizer):
    """Codes are fixed random vectors, moved by one learned linear layer ("SimVQ").

    A gradient step moves that layer, and with it all codes and not only the chosen ones: none is left behind,
    however large the book. The loss is that of `VectorQuantizer`, "codebook" (for the layer) and "commitment".

    Args:
        codebook_size: K.
        dim: channels of the latents.
        codebook_dim: D, numbers in a code. Default: `dim`.
        commitment_weight: beta.
        gradient: "straight_through" or "rotation", see `gradients`.

    Raises:
        ValueError: if `gradient` is not one of these.
    """

    frozen_codes: torch.Tensor

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
            raise CannotStandardizeError("codes can be scaled by one number only.")
        fold_into_output(self.transform, mean, std)

    def lookup(self, indices: torch.Tensor) -> torch.Tensor:
        return self.transform(F.embedding(indices, self.frozen_codes))

    def quantize_vectors(self, tokens: torch.Tensor, update: bool) -> tuple[torch.Tensor, torch.Tensor, Losses]:
        del update  # the codebook moves by its gradient alone
        with torch.no_grad():
            codebook = self.transform(self.frozen_codes)
        indices = nearest_code(tokens.detach(), codebook)
        codes = self.lookup(indices)
        losses = {
            "commitment": self.commitment_weight * F.mse_loss(tokens, codes.detach()),
            "codebook": F.mse_loss(codes, tokens.detach()),
        }
        return GRADIENTS[self.gradient](tokens, codes), indices, losses
