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
    float64, so that any number of processes gives the same but for the rounding of sums.
    """

    def __init__(self) -> None:
        self._sums: torch.Tensor | None = None  # of the products of (latents, 1, rgb)

    def update(self, latents: torch.Tensor, images: torch.Tensor) -> None:
        """Add a batch.

        Args:
            latents: (B, c, h, w); an empty batch changes nothing.
            images: (B, 3, H, W) in [-1, 1], averaged over the area of each position of the latents.
        """
        z = exact(latents).movedim(1, -1).flatten(0, -2)
        rgb = F.interpolate(exact(images), latents.shape[-2:], mode="area").movedim(1, -1).flatten(0, -2)
        rows = torch.cat([z, torch.ones_like(z[:, :1]), rgb], 1)
        products = rows.T @ rows
        self._sums = products if self._sums is None else self._sums + products

    def all_reduce(self) -> None:
        """Add what all processes have seen."""
        given = [sums for sums in objects_over_processes(self._sums) if sums is not None]
        self._sums = sum(given[1:], given[0]) if given else None

    def result(self) -> dict[str, Any] | None:
        """The fit, as plain numbers; None without images, or if it is not finite.

        Returns:
            "factors" (c, 3) and "bias" (3,); "r2", the share of the variance of the averaged images that it explains;
            "psnr" of its picture against them, in dB for the range [-1, 1].
        """
        if self._sums is None or not self._sums.isfinite().all() or not self._sums[-4, -4] > 0:
            return None
        inputs, count = self._sums.shape[0] - 3, self._sums[-4, -4]
        gram, right, squares = self._sums[:inputs, :inputs], self._sums[:inputs, inputs:], self._sums[inputs:, inputs:]
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
