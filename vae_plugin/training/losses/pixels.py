"""Losses of pixels, by the names that `--reconstruction_loss` takes."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...errors import UserError
from ...metrics.reconstruction import WINDOW, gaussian_window, ssim_map

CHARBONNIER_EPSILON = 1e-3


def l1(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference, shape ()."""
    return (x - y).abs().mean()


def l2(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean squared difference, shape ()."""
    return (x - y).square().mean()


def charbonnier(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean of sqrt(difference^2 + eps^2) with eps = 0.001 (Lai et al. 2017, eq. 3), shape ()."""
    return ((x - y).square() + CHARBONNIER_EPSILON**2).sqrt().mean()


def ssim(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """1 - SSIM (Wang et al. 2004), shape (): 0 for equal images, with a gradient to both.

    SSIM is that of `metrics.ssim`: an 11 x 11 Gaussian window with sigma 1.5, only where it lies within the image,
    K1 = 0.01 and K2 = 0.03 for a range of 2, the mean over positions and channels. Nothing is clipped or rounded here.

    Raises:
        UserError: if a side is below 11 pixels.
    """
    check_fits_window(min(x.shape[-2:]))
    window = gaussian_window(WINDOW).to(x.dtype).to(x.device)
    return 1 - ssim_map(x, y, window, -1, 2).mean()


def check_fits_window(side: int) -> None:
    """Refuse images that are smaller than SSIM's window.

    Raises:
        UserError: if the shorter side of an image is.
    """
    if side < WINDOW:
        raise UserError(
            f"--reconstruction_loss ssim compares windows of {WINDOW} x {WINDOW} pixels, and the images have a side of "
            f"{side}: give a --resolution of at least {WINDOW}, or leave ssim out."
        )


PIXEL_LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "l1": l1,
    "l2": l2,
    "charbonnier": charbonnier,
    "ssim": ssim,
}
