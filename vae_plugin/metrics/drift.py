"""What becomes of an image that goes through an autoencoder again and again, as it does in repeated editing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..arguments import Tensor, accepts
from ..errors import NotFiniteError
from ..models.distributed import objects_over_processes
from ..models.exact import exact
from .measures import Seen
from .reconstruction import psnr, rounded

TRIPS = (1, 2, 5)


class Drift:
    """Accumulator of PSNR and colour bias against the original after several round trips, over a stream of images.

    One trip encodes and decodes an image, and rounds it to 8 bits, as it is when it is saved between two edits. The
    means are over images, which all count alike, whatever their sizes. A `Measure`.

    Args:
        trips: numbers of round trips after which is measured, at least 1 each.
        count: images to send round at most: those numbered below it. None for all.
    """

    def __init__(self, trips: Sequence[int] = TRIPS, count: int | None = None) -> None:
        if not trips or min(trips) < 1:
            raise ValueError(f"got trips {list(trips)}: give numbers of round trips, at least 1 each.")
        self.trips, self.count = sorted(set(trips)), count
        self._count = 0
        self._psnr: list[float] = [0.0] * len(self.trips)  # sums over images
        self._bias: list[torch.Tensor] = []  # of each number of trips (C,) float64, likewise

    def update(self, seen: Seen) -> None:
        """Send those images of a batch round that have a number below the count."""
        chosen = [place for place, number in enumerate(seen.numbers) if self.count is None or number < self.count]
        self.add(seen.images[chosen], seen.adapter.reconstruct, seen.reconstructions[chosen])

    @torch.no_grad()
    @accepts(images=Tensor("B C H W"), first=Tensor("B C H W", optional=True))
    def add(
        self,
        images: torch.Tensor,
        reconstruct: Callable[[torch.Tensor], torch.Tensor],
        first: torch.Tensor | None = None,
    ) -> None:
        """Send images round.

        Args:
            images: (B, C, H, W) in [-1, 1]; an empty batch changes nothing.
            reconstruct: images to images of the same shape.
            first: what it makes of these, where that is known.

        Raises:
            NotFiniteError: if a reconstruction is NaN or infinite.
        """
        if not len(images):
            return
        if not self._bias:
            self._bias = [torch.zeros(images.shape[1], dtype=torch.float64) for _ in self.trips]
        original, current = rounded(images), images
        for trip in range(1, self.trips[-1] + 1):
            current = first if trip == 1 and first is not None else reconstruct(current)
            if not current.isfinite().all():
                raise NotFiniteError(f"the reconstruction after {trip} round trip(s)")
            current = rounded(current)
            if trip in self.trips:
                place = self.trips.index(trip)
                self._psnr[place] += exact(psnr(current, original)).sum().item()
                self._bias[place] += 127.5 * (exact(current) - exact(original)).mean((2, 3)).sum(0)
        self._count += len(images)

    def all_reduce(self) -> None:
        """Add what the other processes have seen; every process has to call it, once."""
        seen = [one for one in objects_over_processes((self._count, self._psnr, self._bias)) if one[0]]
        self._count = sum(count for count, _, _ in seen)
        self._psnr = [sum(values) for values in zip(*(sums for _, sums, _ in seen), strict=True)] or self._psnr
        self._bias = [torch.stack(values).sum(0) for values in zip(*(sums for _, _, sums in seen), strict=True)]

    def result(self) -> dict[str, Any]:
        """The means over all images.

        Returns:
            For n in `trips` "drift_psnr_n" (dB), the mean over images of the PSNR of the 8-bit image after n trips
            against the original, and "drift_bias_n", the mean signed change of each channel in 8-bit levels;
            "drift_images", how many went round. Empty without images.
        """
        if not self._count:
            return {}
        result: dict[str, Any] = {}
        for trip, total, bias in zip(self.trips, self._psnr, self._bias, strict=True):
            result[f"drift_psnr_{trip}"] = total / self._count
            result[f"drift_bias_{trip}"] = (bias / self._count).tolist()
        return {**result, "drift_images": self._count}
