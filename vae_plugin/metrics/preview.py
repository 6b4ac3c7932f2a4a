"""The best picture of latents without a network: one matrix from their channels to red, green and blue."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from ..models.distributed import objects_over_processes
from ..models.exact import exact

DIGITS = 6  # of what is kept: more than any preview shows, and fewer than the order of a sum changes


class LatentToRGB:
    """Accumulator of the least squares fit rgb = latents @ factors + bias, over images and positions.

    What ComfyUI calls `latent_rgb_factors` and `latent_rgb_factors_bias`. It keeps the sums of the normal equations in
    float64, so that any number of processes gives the same but for the rounding of sums, and that the fit is known of
    any shift and scale of the latents without seeing them again.

    Args:
        patch: height and width of the patch of latents in which each place may be shifted and scaled by itself.
    """

    def __init__(self, patch: tuple[int, int] = (1, 1)) -> None:
        self.patch = patch
        self._sums: torch.Tensor | None = None  # for each place, of the products of (latents, 1, rgb)

    def update(self, latents: torch.Tensor, images: torch.Tensor) -> None:
        """Add a batch.

        Args:
            latents: (B, c, h, w); an empty batch changes nothing.
            images: (B, 3, H, W) in [-1, 1], averaged over the area of each position of the latents.
        """
        rgb = F.interpolate(exact(images), latents.shape[-2:], mode="area")
        rows = torch.cat([exact(latents), torch.ones_like(rgb[:, :1]), rgb], 1).movedim(1, -1)
        (height, width), size = self.patch, rows.shape[-1]
        places = [rows[:, i::height, j::width].reshape(-1, size) for i in range(height) for j in range(width)]
        products = torch.stack([place.T @ place for place in places])
        self._sums = products if self._sums is None else self._sums + products

    def all_reduce(self) -> None:
        """Add what all processes have seen."""
        given = [sums for sums in objects_over_processes(self._sums) if sums is not None]
        self._sums = sum(given[1:], given[0]) if given else None

    @property
    def channels(self) -> int:
        """Of the latents; 0 before the first batch."""
        return 0 if self._sums is None else self._sums.shape[-1] - 4

    def result(self, scale: torch.Tensor | None = None, shift: torch.Tensor | None = None) -> dict[str, Any] | None:
        """The fit of scale * latents + shift, as plain numbers; None without images, or if it is not finite.

        Args:
            scale: of each channel at each place of a patch, (c, *patch). Default: 1.
            shift: likewise. Default: 0.

        Returns:
            "factors" (c, 3) and "bias" (3,); "r2", the share of the variance of the averaged images that it explains;
            "psnr" of its picture against them, in dB for the range [-1, 1].
        """
        if self._sums is None:
            return None
        change = torch.eye(self._sums.shape[-1], dtype=torch.float64).repeat(len(self._sums), 1, 1)
        channels, of_one = range(self.channels), -4
        if scale is not None:
            change[:, channels, channels] = exact(scale).flatten(1).T
        if shift is not None:
            change[:, of_one, channels] = exact(shift).flatten(1).T
        sums = (change.mT @ self._sums @ change).sum(0)
        if not sums.isfinite().all() or not sums[of_one, of_one] > 0:
            return None
        inputs, count = len(sums) - 3, sums[of_one, of_one]
        gram, right, squares = sums[:inputs, :inputs], sums[:inputs, inputs:], sums[inputs:, inputs:]
        fit = torch.linalg.lstsq(gram, right, driver="gelsd").solution  # the shortest, where channels depend on others
        error = (squares.diagonal().sum() - (fit * right).sum()).clamp_min(0)  # of the fit, right = gram @ fit
        means = right[-1] / count
        variance = (squares.diagonal() - count * means.square()).sum()
        mse = max((error / (3 * count)).item(), 1e-12)
        return {
            "factors": [[round(value, DIGITS) for value in row] for row in fit[:-1].tolist()],
            "bias": [round(value, DIGITS) for value in fit[-1].tolist()],
            "r2": round(1 - (error / variance).item(), DIGITS) if variance > 0 else 0.0,
            "psnr": round(10 * math.log10(4 / mse), 3),
        }
