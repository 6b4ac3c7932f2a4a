"""Losses of pixels, by the names that `--reconstruction_loss` takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from ...errors import UserError
from ...metrics.reconstruction import (
    MS_SSIM_SIDE,
    SCALES,
    WINDOW,
    gaussian_window,
    ms_ssim_factors,
    ms_ssim_of,
    ssim_map,
)

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
    check_fits_windows(["ssim"], min(x.shape[-2:]))
    return 1 - ssim_map(x, y, _window(x), -1, 2).mean()


def ms_ssim(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """1 - MS-SSIM (Wang et al. 2003), shape (): 0 for equal images, with a gradient to both.

    Five scales with the authors' exponents, each SSIM as in `ssim`, the mean over channels and images. A channel whose
    structure is the opposite of the other's at some scale, so that the mean there is not positive, has 0 and no
    gradient: then another loss beside this one is needed.

    Raises:
        UserError: if a side is below 161 pixels, where the coarsest scale has no room for the window.
    """
    check_fits_windows(["ms-ssim"], min(x.shape[-2:]))
    return 1 - ms_ssim_of(ms_ssim_factors(x, y, _window(x), -1, 2)).mean()


def _window(x: torch.Tensor) -> torch.Tensor:
    return gaussian_window(WINDOW).to(x.dtype).to(x.device)


def check_fits_windows(losses: Iterable[str], side: int) -> None:
    """Refuse images that are smaller than the window of a loss.

    Args:
        losses: their names.
        side: shorter side of the images in pixels.

    Raises:
        UserError: if one does not fit.
    """
    for name in losses:
        if side < (smallest := SMALLEST_SIDES.get(name, 1)):
            scales = f" at {len(SCALES)} scales" if name == "ms-ssim" else ""
            raise UserError(
                f"--reconstruction_loss {name} compares windows of {WINDOW} x {WINDOW} pixels{scales}, and the images "
                f"have a side of {side}: give a --resolution of at least {smallest}, or leave {name} out."
            )


PIXEL_LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "l1": l1,
    "l2": l2,
    "charbonnier": charbonnier,
    "ssim": ssim,
    "ms-ssim": ms_ssim,
}
SMALLEST_SIDES = {"ssim": WINDOW, "ms-ssim": MS_SSIM_SIDE}
