"""k-means, and random row numbers that are the same in every process."""

from __future__ import annotations

import torch

from .search import nearest_code


def count_and_sum(
    indices: torch.Tensor, vectors: torch.Tensor, codebook_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Count and sum the vectors assigned to each code: (K,) and (K, D), both in the dtype of `vectors`."""
    counts = torch.bincount(indices, minlength=codebook_size).to(vectors.dtype)
    return counts, vectors.new_zeros(codebook_size, vectors.shape[1]).index_add_(0, indices, vectors)


def random_rows(total: int, count: int, seed: int, device: torch.device) -> torch.Tensor:
    """Draw up to `count` distinct integers below `total`, the same on every device and process: (<= count,)."""
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count].to(device)


@torch.no_grad()
def kmeans(
    vectors: torch.Tensor, clusters: int, iterations: int, seed: int, normalize: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lloyd's algorithm, initialised with randomly chosen vectors.

    Args:
        vectors: (N, D), N >= clusters.
        clusters: number of centres, M.
        iterations: number of assignment and averaging steps.
        seed: random seed of the initial centres.
        normalize: spherical k-means, which keeps the centres at norm 1; needs vectors of norm 1.

    Returns:
        Centres (M, D) and the number of vectors assigned to each, (M,). A centre without vectors does not move.
    """
    centres = vectors[random_rows(len(vectors), clusters, seed, vectors.device)].clone()
    counts = vectors.new_ones(clusters)
    for _ in range(iterations):
        counts, sums = count_and_sum(nearest_code(vectors, centres), vectors, clusters)
        means = sums / counts.clamp_min(1)[:, None]
        if normalize:
            means = torch.nn.functional.normalize(means, dim=1)
        centres = torch.where(counts[:, None] > 0, means, centres)
    return centres, counts
