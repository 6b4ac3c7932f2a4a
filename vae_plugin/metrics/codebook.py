"""How the codes of a codebook are used over a whole set of images."""

from __future__ import annotations

import torch

from ..models.quantizers.entropy import perplexity


class CodebookUsage:
    """Counts codes, as whole numbers, over all that it is shown.

    Usage over the last so many vectors, or a mean of batches' perplexities, says as much about that number as about the
    codebook; this counts the whole set, and says how many vectors that was.

    Args:
        codebook_size: K.
    """

    def __init__(self, codebook_size: int) -> None:
        self.counts = torch.zeros(codebook_size, dtype=torch.long)

    def update(self, indices: torch.Tensor) -> None:
        """Count indices of any shape."""
        self.counts += torch.bincount(indices.flatten().cpu(), minlength=len(self.counts))

    def result(self) -> dict[str, float]:
        """What was counted.

        Returns:
            "codebook_usage", the share of codes that occur; "codebook_perplexity"; "dead_codes", how many do not occur;
            "codebook_positions", how many vectors were counted.
        """
        counts = self.counts
        used = int((counts > 0).sum())
        return {
            "codebook_usage": used / len(counts),
            "codebook_perplexity": perplexity(counts).item(),
            "dead_codes": len(counts) - used,
            "codebook_positions": int(counts.sum()),
        }
