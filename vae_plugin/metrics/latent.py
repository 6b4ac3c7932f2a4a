"""Statistics of latents over a set of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..arguments import Real, Tensor, accepts
from ..models.distributed import objects_over_processes
from ..models.exact import exact


@accepts(means=Tensor(), threshold=Real(0))
def active_units(means: torch.Tensor, threshold: float = 0.01) -> int:
    """Number of active units, latent dimensions u with Var_x(E_q[u|x]) > threshold (Burda et al. 2016, section 5).

    A unit that the decoder ignores has the prior as its posterior for every image, so its mean is constant.

    Args:
        means: posterior means of N images, (N, D) or (N, C, H, W), N at least 2. Each channel at each position is a
            unit.
        threshold: variance above which a unit is active; the prior has variance 1.

    Returns:
        An integer between 0 and D, or C * H * W.

    Raises:
        ValueError: if `means` has another shape.
    """
    if means.ndim not in (2, 4) or len(means) < 2 or 0 in means.shape:
        raise ValueError(f"got means {tuple(means.shape)}: expected (N, D) or (N, C, H, W) of at least 2 images.")
    return int((exact(means).var(0, correction=0) > threshold).sum())


class RunningMoments:
    """Accumulator of the mean and standard deviation per channel of a stream of latents, over images and positions.

    It keeps count, mean and sum of squared deviations in float64 on the CPU, merged as in Chan et al. 1979. A plain sum
    of squares would lose the deviations of latents whose mean is large.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean = torch.zeros(0, dtype=torch.float64)
        self._squares = torch.zeros(0, dtype=torch.float64)  # sum of (z - mean)^2

    @accepts(z=Tensor())
    def update(self, z: torch.Tensor) -> None:
        """Add a batch of latents.

        Args:
            z: (B, C) or (B, C, H, W), with the same C in every call; an empty batch changes nothing.

        Raises:
            ValueError: if z has another shape.
        """
        if z.ndim not in (2, 4) or not z.shape[1] or (self._count and z.shape[1] != len(self._mean)):
            channels = str(len(self._mean)) if self._count else "C"
            raise ValueError(f"got latents {tuple(z.shape)}: expected (B, {channels}) or (B, {channels}, H, W).")
        values = exact(z).movedim(1, -1).reshape(-1, z.shape[1])
        if len(values):
            squares, mean = torch.var_mean(values, 0, correction=0)
            self._merge(len(values), mean, squares * len(values))

    def _merge(self, count: int, mean: torch.Tensor, squares: torch.Tensor) -> None:
        if not self._count:
            self._count, self._mean, self._squares = count, mean, squares
            return
        total = self._count + count
        difference = mean - self._mean
        self._mean = self._mean + difference * (count / total)
        self._squares = self._squares + squares + difference.square() * (self._count * count / total)
        self._count = total

    def state(self) -> dict[str, Any]:
        """What has been seen, as plain values that `merge` takes: float64 to the bit, also through JSON."""
        return {"count": self._count, "mean": self._mean.tolist(), "squares": self._squares.tolist()}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another accumulator has seen, from its `state`."""
        if state["count"]:
            mean, squares = (torch.tensor(state[name], dtype=torch.float64) for name in ("mean", "squares"))
            self._merge(int(state["count"]), mean, squares)

    def all_reduce(self) -> RunningMoments:
        """Merge the streams of all processes in place, so that every process has the moments of all latents.

        Every process must call this exactly once, at the end, even if it saw no latents. Without `torch.distributed` it
        does nothing.

        Returns:
            The object itself.
        """
        streams = objects_over_processes((self._count, self._mean, self._squares))
        self._count = 0
        for count, mean, squares in streams:
            if count:
                self._merge(count, mean, squares)
        return self

    @property
    def count(self) -> int:
        """Number of values seen per channel: B for flat latents, B * H * W for spatial ones."""
        return self._count

    @property
    def mean(self) -> torch.Tensor:
        """Mean per channel: (C,) float64, on the CPU."""
        self._require_latents()
        return self._mean.clone()

    @property
    def std(self) -> torch.Tensor:
        """Standard deviation per channel, normalised by `count`: (C,) float64, on the CPU."""
        self._require_latents()
        return (self._squares / self._count).sqrt()

    def _require_latents(self) -> None:
        if not self._count:
            raise ValueError("no latents yet: call update(z) before asking for their mean or std.")
