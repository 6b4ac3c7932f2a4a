"""k-means, and a choice of tokens that every process makes alike."""

from __future__ import annotations

import torch

from .search import nearest_code


def count_and_sum(indices: torch.Tensor, tokens: torch.Tensor, codebook_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """How many tokens chose each code, (K,), and their sum, (K, D): both in the tokens' dtype."""
    counts = torch.bincount(indices, minlength=codebook_size).to(tokens.dtype)
    return counts, tokens.new_zeros(codebook_size, tokens.shape[1]).index_add_(0, indices, tokens)


def random_rows(total: int, count: int, seed: int, device: torch.device) -> torch.Tensor:
    """`count` different numbers below `total` (or all of them), the same on every device and process: (<= count,)."""
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count].to(device)


@torch.no_grad()
def kmeans(
    tokens: torch.Tensor, clusters: int, iterations: int, seed: int, normalize: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lloyd's algorithm from random tokens.

    Args:
        tokens: (N, D), N >= clusters.
        clusters: M.
        iterations: of assignment and mean.
        seed: of the first centres.
        normalize: spherical k-means: centres of norm 1 (for tokens of norm 1).

    Returns:
        Centres (M, D) and the number of tokens of each, (M,). A centre without tokens stays where it was.
    """
    centres = tokens[random_rows(len(tokens), clusters, seed, tokens.device)].clone()
    counts = tokens.new_ones(clusters)
    for _ in range(iterations):
        counts, sums = count_and_sum(nearest_code(tokens, centres), tokens, clusters)
        means = sums / counts.clamp_min(1)[:, None]
        if normalize:
            means = torch.nn.functional.normalize(means, dim=1)
        centres = torch.where(counts[:, None] > 0, means, centres)
    return centres, counts
