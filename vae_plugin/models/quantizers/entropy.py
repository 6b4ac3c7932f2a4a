"""Entropy measures of code assignments."""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

from ..distributed import mean_over_processes
from ..exact import exact_dtype
from .search import CPU_TILE


def perplexity(counts: torch.Tensor) -> torch.Tensor:
    """Exponential of the entropy of code frequencies, shape (); K equally used codes give K.

    It is at most the number of vectors counted, so compare only values computed from the same number of vectors.

    Args:
        counts: number of vectors assigned to each code, (K,).
    """
    p = counts.to(exact_dtype(counts.device)) / counts.sum().clamp_min(1)
    return torch.special.entr(p).sum().exp()


def entropy_loss(vectors: torch.Tensor, codebook: torch.Tensor, temperature: float) -> torch.Tensor:
    """E[H(p(k|z))] - H(E[p(k|z)]) in nats, with p(k|z) the softmax of -||z - e_k||^2 / temperature: shape ().

    The first entropy is small when each vector clearly prefers one code, the second is large when all codes are in use
    (Yu et al. 2023, "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation", eq. 5). The expectation
    E[p(k|z)] runs over the vectors of all processes. Probabilities are computed one block of vectors at a time and
    recomputed in the backward pass, so memory grows with the block rather than with N x K.

    Args:
        vectors: (N, D).
        codebook: (K, D).
        temperature: temperature of the softmax, positive.
    """
    rows = max(1, CPU_TILE[0] * CPU_TILE[1] // len(codebook))
    entropies, choices = vectors.new_zeros(()), torch.zeros_like(codebook[:, 0])
    for block in vectors.split(rows):
        entropy, choice = checkpoint(_soft_choice, block, codebook, temperature, use_reentrant=False)
        entropies, choices = entropies + entropy, choices + choice
    vector_entropy, choice = entropies / len(vectors), choices / len(vectors)
    return vector_entropy - _entropy_of_mean(choice)


def _soft_choice(
    vectors: torch.Tensor, codebook: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = (2 * vectors @ codebook.T - codebook.square().sum(1)) / temperature
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    return -(p * log_p).sum(), p.sum(0)


def _entropy_of_mean(choice: torch.Tensor) -> torch.Tensor:
    """Entropy of the mean of `choice` over processes; the gradient is this process's share, as for averaged losses."""
    mean = mean_over_processes(choice)
    log_mean = mean.clamp_min(torch.finfo(mean.dtype).tiny).log()
    # dH = -sum_k (log p_k + 1) dp_k; the probabilities sum to one, so the 1 drops out.
    surrogate = -(log_mean * choice).sum()
    return surrogate + (-(log_mean * mean).sum() - surrogate).detach()
