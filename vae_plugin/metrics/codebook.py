"""Use of a codebook over a whole set of images."""

from __future__ import annotations

import torch

from ..models.quantizers.entropy import perplexity


class CodebookUsage:
    """Accumulator that counts how often each code occurs over a whole set.

    Usage within a sliding window and averages of per-batch perplexities depend on the number of positions as much as on
    the codebook. This counts the whole set and reports its number of positions.

    Args:
        codebook_size: number of codes, K.
    """

    def __init__(self, codebook_size: int) -> None:
        self.counts = torch.zeros(codebook_size, dtype=torch.long)

    def update(self, indices: torch.Tensor) -> None:
        """Count indices of any shape."""
        self.counts += torch.bincount(indices.flatten().cpu(), minlength=len(self.counts))

    def result(self) -> dict[str, float]:
        """Compute the measures from the counts so far.

        Returns:
            "codebook_usage", the fraction of codes that occur; "codebook_perplexity"; "dead_codes", the number of codes
            that never occur; "codebook_positions", the number of indices counted.
        """
        counts = self.counts
        used = int((counts > 0).sum())
        return {
            "codebook_usage": used / len(counts),
            "codebook_perplexity": perplexity(counts).item(),
            "dead_codes": len(counts) - used,
            "codebook_positions": int(counts.sum()),
        }
