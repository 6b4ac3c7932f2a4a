"""Lookup-free quantisation: Yu et al. 2023, "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation"."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..distributed import mean_over_processes
from .base import Losses, Quantizer
from .gradients import straight_through


class LookupFreeQuantizer(Quantizer):
    """Each number becomes its sign: a code is a corner of the cube {-1, 1}^D, and its index the number in binary.

    The loss "commitment" is beta ||z - sign(z)||^2, the mean over elements. The loss "entropy" (eq. 5) wants every bit
    of a token to be certain and every bit over all tokens to be even. The entropy of the mean choice is taken bit by
    bit, as if the bits were independent (Zhao et al. 2024, "Image and Video Tokenization with Binary Spherical
    Quantization", eq. 14): an upper bound on the paper's, which needs a table of all 2^D codes.

    Args:
        codebook_size: 2^D.
        dim: channels of the latents.
        commitment_weight: beta.
        entropy_weight: of the loss "entropy".
        entropy_temperature: of a bit's soft choice, softmax of -||z - e||^2 / temperature.

    Raises:
        ValueError: if `codebook_size` is not a power of two.
    """

    _powers: torch.Tensor

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
            raise ValueError(f"codebook_size is {codebook_size}: a lookup-free quantiser needs a power of two.")
        super().__init__(dim, bits)
        self.codebook_size = codebook_size
        self.commitment_weight = commitment_weight
        self.entropy_weight = entropy_weight
        self.entropy_temperature = entropy_temperature
        self.register_buffer("_powers", 2 ** torch.arange(bits), persistent=False)

    def extra_repr(self) -> str:
        return f"{self.codebook_size}, {self.dim}"

    def quantize_vectors(self, tokens: torch.Tensor, update: bool) -> tuple[torch.Tensor, torch.Tensor, Losses]:
        del update  # there is nothing to keep
        positive = tokens.detach() > 0
        codes = 2.0 * positive - 1
        losses = {"commitment": self.commitment_weight * F.mse_loss(tokens, codes)}
        if self.entropy_weight:
            losses["entropy"] = self.entropy_weight * self._entropy_loss(tokens)
        return straight_through(tokens, codes), (positive * self._powers).sum(1), losses

    def _entropy_loss(self, tokens: torch.Tensor) -> torch.Tensor:
        """E[H(p)] - H(E[p]) in nats, summed over bits. |z + 1|^2 - |z - 1|^2 = 4 z are the logits of a bit."""
        logits = 4 * tokens / self.entropy_temperature
        p = logits.sigmoid()
        token_entropy = -(p * F.logsigmoid(logits) + (1 - p) * F.logsigmoid(-logits)).sum(1).mean()
        local = p.mean(0)
        mean = mean_over_processes(local).clamp(1e-6, 1 - 1e-6)
        # The gradient is this process's part, as for a mean of losses: d H = -logit(p) d p.
        surrogate = -(mean.logit() * local).sum()
        value = -(mean * mean.log() + (1 - mean) * (-mean).log1p()).sum()
        return token_entropy - (surrogate + (value - surrogate).detach())

    def lookup(self, indices: torch.Tensor) -> torch.Tensor:
        return 2.0 * (indices[..., None] // self._powers % 2) - 1
