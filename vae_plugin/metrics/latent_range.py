"""The range of each latent channel over a set of images: what a diffusion model has to produce, and a file to hold."""

from __future__ import annotations

from typing import Any

import torch

from ..arguments import Tensor, accepts
from ..errors import NotFiniteError
from ..models.distributed import objects_over_processes
from ..models.exact import exact
from .measures import Seen

BINS = 2**14  # of the histogram of a channel, between minus and plus a power of two
TAIL = 0.001
SMALLEST = -60  # exponent of the narrowest histogram


class LatentRange:
    """Accumulator of the extremes and the tails of each channel over a stream of latents; see `RunningMoments` as well.

    Quantiles come from a histogram that doubles its range, and joins its bins in pairs, when a value lies beyond it. So
    they are exact to 1 / 4096 of the largest absolute value of the channel, in constant memory, and the same in any
    order and for any number of processes. Between two values of the stream they are the lower one. A `Measure`.
    """

    def __init__(self) -> None:
        self._low = self._high = torch.zeros(0, dtype=torch.float64)
        self._exponents = torch.zeros(0, dtype=torch.long)  # the range of a channel is +- 2^exponent
        self._counts = torch.zeros(0, BINS, dtype=torch.long)

    def update(self, seen: Seen) -> None:
        """Take the latents of the images."""
        self.add(seen.latents)

    @accepts(z=Tensor("B C", "B C H W"))
    def add(self, z: torch.Tensor) -> None:
        """Add a batch of latents (B, C) or (B, C, H, W), with the same C in every call.

        Raises:
            NotFiniteError: if a latent is NaN or infinite.
        """
        if not len(z):
            return
        if not z.isfinite().all():
            raise NotFiniteError("a latent")
        values = exact(z).movedim(1, 0).flatten(1)  # (C, N)
        largest = values.abs().amax(1)
        exponents = torch.frexp(largest)[1].long().clamp_min(SMALLEST)  # largest < 2^exponent
        exponents[largest == 0] = SMALLEST
        bins = (values * torch.exp2(-exponents.double())[:, None] + 1) * (BINS // 2)
        bins = bins.long() + BINS * torch.arange(len(values))[:, None]
        counts = torch.bincount(bins.flatten(), minlength=BINS * len(values)).view(-1, BINS)
        self._merge(values.amin(1), values.amax(1), exponents, counts)

    def _merge(self, low: torch.Tensor, high: torch.Tensor, exponents: torch.Tensor, counts: torch.Tensor) -> None:
        if not len(self._low):
            self._low, self._high, self._exponents, self._counts = low, high, exponents, counts
            return
        wanted = torch.maximum(self._exponents, exponents)
        self._counts = _widened(self._counts, wanted - self._exponents) + _widened(counts, wanted - exponents)
        self._low, self._high = torch.minimum(self._low, low), torch.maximum(self._high, high)
        self._exponents = wanted

    def all_reduce(self) -> None:
        """Add what the other processes have seen; every process has to call it, once."""
        seen = objects_over_processes((self._low, self._high, self._exponents, self._counts.to_sparse()))
        self._low = torch.zeros(0, dtype=torch.float64)
        for low, high, exponents, counts in seen:
            if len(low):
                self._merge(low, high, exponents, counts.to_dense())

    def result(self) -> dict[str, Any]:
        """The range of each channel.

        Returns:
            "latent_min_per_channel", "latent_q0.001_per_channel" and "latent_q0.999_per_channel" (quantiles) and
            "latent_max_per_channel", lists. Empty without latents.
        """
        if not len(self._low):
            return {}
        values = {
            "min": self._low,
            f"q{TAIL}": self._quantile(TAIL),
            f"q{1 - TAIL}": self._quantile(1 - TAIL),
            "max": self._high,
        }
        return {f"latent_{name}_per_channel": value.tolist() for name, value in values.items()}

    def _quantile(self, share: float) -> torch.Tensor:
        """The value (C,) below which that share of a channel lies, interpolated within its bin."""
        cumulative = self._counts.cumsum(1)
        rank = share * (cumulative[:, -1:] - 1)
        place = (cumulative <= rank).sum(1).clamp_max(BINS - 1)
        within = self._counts.gather(1, place[:, None])[:, 0]
        before = cumulative.gather(1, place[:, None])[:, 0] - within
        position = place + (rank[:, 0] - before + 0.5) / within
        value = (position / (BINS // 2) - 1) * torch.exp2(self._exponents.double())
        return torch.minimum(torch.maximum(value, self._low), self._high)


def _widened(counts: torch.Tensor, doublings: torch.Tensor) -> torch.Tensor:
    """Histograms (C, BINS) over a range that is 2^doublings (C,) times as wide."""
    counts = counts.clone()
    for channel in torch.nonzero(doublings).flatten().tolist():
        centred = torch.arange(BINS) - BINS // 2
        moved = (centred >> min(int(doublings[channel]), 62)) + BINS // 2
        counts[channel] = torch.zeros(BINS, dtype=torch.long).index_add_(0, moved, counts[channel])
    return counts
