"""Entropies of the choice of codes."""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

from ..distributed import mean_over_processes
from .search import CPU_TILE


def perplexity(counts: torch.Tensor) -> torch.Tensor:
    """exp of the entropy of the codes' frequencies, shape (): K codes in equal use give K.

    Of n tokens it is at most n: compare only figures over equally many.

    Args:
        counts: tokens of each code, (K,).
    """
    exact = torch.float64 if counts.device.type == "cpu" else torch.float32  # which is all that some devices have
    p = counts.to(exact) / counts.sum().clamp_min(1)
    return torch.special.entr(p).sum().exp()


def entropy_loss(tokens: torch.Tensor, codebook: torch.Tensor, temperature: float) -> torch.Tensor:
    """E[H(p(k|z))] - H(E[p(k|z)]) in nats, with p(k|z) the softmax of -||z - e_k||^2 / temperature: shape ().

    The first entropy is small where each token prefers one code clearly, the second large where all codes are in use
    (Yu et al. 2023, "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation", eq. 5). The mean choice is
    over the tokens of all processes. The probabilities are computed again in the backward pass, a block of tokens at a
    time: memory is that of the block, not N x K.

    Args:
        tokens: (N, D).
        codebook: (K, D).
        temperature: positive.
    """
    rows = max(1, CPU_TILE[0] * CPU_TILE[1] // len(codebook))
    entropies, choices = tokens.new_zeros(()), torch.zeros_like(codebook[:, 0])
    for block in tokens.split(rows):
        entropy, choice = checkpoint(_soft_choice, block, codebook, temperature, use_reentrant=False)
        entropies, choices = entropies + entropy, choices + choice
    token_entropy, choice = entropies / len(tokens), choices / len(tokens)
    return token_entropy - _entropy_of_mean(choice)


def _soft_choice(tokens: torch.Tensor, codebook: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    logits = (2 * tokens @ codebook.T - codebook.square().sum(1)) / temperature
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    return -(p * log_p).sum(), p.sum(0)


def _entropy_of_mean(choice: torch.Tensor) -> torch.Tensor:
    """H of the mean of `choice` over processes; its gradient is this process's part, as for a mean of losses."""
    mean = mean_over_processes(choice)
    log_mean = mean.clamp_min(torch.finfo(mean.dtype).tiny).log()
    # d H = -sum_k (log p_k + 1) d p_k, and the probabilities sum to one: the 1 drops out.
    surrogate = -(log_mean * choice).sum()
    return surrogate + (-(log_mean * mean).sum() - surrogate).detach()
