"""Lookup-free quantisation: Yu et al. 2023, "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation"."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...arguments import Real, Whole, accepts
from ..distributed import mean_over_processes
from .base import Losses, Quantizer
from .gradients import straight_through


class LookupFreeQuantizer(Quantizer):
    """Quantiser that takes the sign of each number: codes are the corners of {-1, 1}^D, indices their bits in binary.

    The "commitment" loss is beta ||z - sign(z)||^2, a mean over elements. The "entropy" loss (eq. 5) makes each bit
    certain for a single vector but balanced over all vectors. The entropy of the mean assignment is computed bit by
    bit, as if the bits were independent (Zhao et al. 2024, "Image and Video Tokenization with Binary Spherical
    Quantization", eq. 14). That is an upper bound on the paper's term, which needs a table of all 2^D codes.

    Args:
        codebook_size: number of codes, 2^D.
        dim: number of latent channels.
        commitment_weight: weight of the commitment loss, beta.
        entropy_weight: weight of the entropy loss.
        entropy_temperature: temperature of the soft assignment of a bit, softmax of -||z - e||^2 / temperature.

    Raises:
        ValueError: if `codebook_size` is not a power of two.
    """

    _powers: torch.Tensor

    @accepts(
        codebook_size=Whole(),
        dim=Whole(1),
        commitment_weight=Real(0),
        entropy_weight=Real(0),
        entropy_temperature=Real(above=0),
    )
    def __init__(
        self,
        codebook_size: int,
        dim: int,
        *,
        commitment_weight: float = 0.25,
        entropy_weight: float = 0.1,
        entropy_temperature: float = 1.0,
    ) -> None:
        bits = codebook_size.bit_length() - 1
        if codebook_size != 2**bits or bits < 1:
            raise ValueError(
                f"codebook_size is {codebook_size}: it must be a power of two for a lookup-free quantiser."
            )
        super().__init__(dim, bits)
        self.codebook_size = codebook_size
        self.commitment_weight = commitment_weight
        self.entropy_weight = entropy_weight
        self.entropy_temperature = entropy_temperature
        self.register_buffer("_powers", 2 ** torch.arange(bits), persistent=False)

    def extra_repr(self) -> str:
        return f"{self.codebook_size}, {self.dim}"

    def quantize_vectors(self, vectors: torch.Tensor, update: bool) -> tuple[torch.Tensor, torch.Tensor, Losses]:
        del update  # there are no statistics
        positive = vectors.detach() > 0
        codes = 2.0 * positive - 1
        losses = {"commitment": self.commitment_weight * F.mse_loss(vectors, codes)}
        if self.entropy_weight:
            losses["entropy"] = self.entropy_weight * self._entropy_loss(vectors)
        return straight_through(vectors, codes), (positive * self._powers).sum(1), losses

    def _entropy_loss(self, vectors: torch.Tensor) -> torch.Tensor:
        """E[H(p)] - H(E[p]) in nats, summed over bits; the logit of a bit is |z + 1|^2 - |z - 1|^2 = 4 z."""
        logits = 4 * vectors / self.entropy_temperature
        p = logits.sigmoid()
        vector_entropy = -(p * F.logsigmoid(logits) + (1 - p) * F.logsigmoid(-logits)).sum(1).mean()
        local = p.mean(0)
        mean = mean_over_processes(local).clamp(1e-6, 1 - 1e-6)
        # The gradient is this process's share, as for averaged losses: dH = -logit(p) dp.
        surrogate = -(mean.logit() * local).sum()
        value = -(mean * mean.log() + (1 - mean) * (-mean).log1p()).sum()
        return vector_entropy - (surrogate + (value - surrogate).detach())

    def lookup(self, indices: torch.Tensor) -> torch.Tensor:
        return 2.0 * (indices[..., None] // self._powers % 2) - 1
