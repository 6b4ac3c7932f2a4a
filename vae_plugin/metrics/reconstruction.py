"""Reconstruction measures as papers report them, computed on 8-bit images.

Every function returns one value per image; the value of a set is their mean. (The PSNR of a set's mean squared error is
a different number.)
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ..arguments import Tensor, accepts
from ..models.exact import exact
from ..wording import NO_VIDEOS

MAX_PSNR = 100.0  # dB
WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # exponents of MS-SSIM from fine to coarse (Wang et al. 2003)
MS_SSIM_SIDE = (WINDOW - 1) * 2 ** (len(SCALES) - 1) + 1  # the smallest whose coarsest scale holds a window: 161


@torch.no_grad()
@accepts(x=Tensor(), y=Tensor())
def psnr(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio of 8-bit images, 10 log10(255^2 / MSE).

    Args:
        x: images (B, C, H, W), clipped to [-1, 1] and rounded to the nearest of 256 levels.
        y: images of the same shape.

    Returns:
        (B,) dB, float32, capped at 100 dB (an MSE of 6.5e-6 levels^2), the value of identical images.

    Raises:
        ValueError: if the images do not have the same shape (B, C, H, W) or are not floating point.
    """
    x, y = _to_8_bits(x, y)
    mse = (x - y).square().flatten(1).mean(1)
    return (10 * torch.log10(255**2 / mse)).clamp(max=MAX_PSNR)


@torch.no_grad()
@accepts(x=Tensor(), y=Tensor())
def mse(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean squared error of 8-bit images, in the units of the range [-1, 1]: `psnr` is 10 log10(4 / mse) of it.

    A level is 1 / 127.5 of these units. In the range [0, 1] the number is a quarter of this.

    Args:
        x: images (B, C, H, W), clipped to [-1, 1] and rounded to the nearest of 256 levels, as in `psnr`.
        y: images of the same shape.

    Returns:
        (B,), float32.

    Raises:
        ValueError: as `psnr`.
    """
    x, y = _to_8_bits(x, y)
    return (x - y).square().flatten(1).mean(1) / 127.5**2


@torch.no_grad()
@accepts(x=Tensor(), y=Tensor())
def l1(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of 8-bit images, in the units of the range [-1, 1]; otherwise as `mse`."""
    x, y = _to_8_bits(x, y)
    return (x - y).abs().flatten(1).mean(1) / 127.5


@torch.no_grad()
@accepts(x=Tensor(), y=Tensor())
def ssim(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Structural similarity of 8-bit images (Wang et al. 2004), averaged over positions and channels.

    The window is an 11 x 11 Gaussian with sigma 1.5, K1 = 0.01 and K2 = 0.03, and only positions whose window lies
    within the image count, as in the paper's code and in scikit-image (`gaussian_weights=True,
    use_sample_covariance=False`). Images with a side below 11 use the largest odd window that fits, with a
    proportionally smaller sigma; their values can only be compared with each other.

    Args:
        x: images (B, C, H, W) in [-1, 1] with H and W at least 3; clipped and rounded as in `psnr`.
        y: images of the same shape.

    Returns:
        (B,), float32; 1 for identical images. Computed in float64, because the variance of a flat bright image is a
        difference of large numbers.

    Raises:
        ValueError: if the images do not have the same shape (B, C, H, W), are too small or are not floating point.
    """
    x, y = _to_8_bits(x, y)
    side = min(x.shape[2:])
    if side < 3:
        raise ValueError(f"got images of {x.shape[2]} x {x.shape[3]} pixels: SSIM needs at least 3 x 3.")
    weights = gaussian_window(min(WINDOW, side - 1 + side % 2))

    # One image at a time: the window means of a batch need eleven times its memory, and take longer.
    values = [ssim_map(exact(a), exact(b), weights, 0, 255).mean() for a, b in zip(x.split(1), y.split(1), strict=True)]
    return torch.stack(values).float().to(x.device)


@torch.no_grad()
@accepts(x=Tensor(), y=Tensor())
def ms_ssim(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Multi-scale structural similarity of 8-bit images (Wang, Simoncelli & Bovik 2003), averaged over channels.

    Five scales with the weights of the paper, the window of `ssim` at each. A channel whose factor at some scale is not
    positive counts as 0.

    Args:
        x: images (B, C, H, W) in [-1, 1] with H and W at least `MS_SSIM_SIDE`; clipped and rounded as in `psnr`.
        y: images of the same shape.

    Returns:
        (B,), float32; 1 for identical images. Computed in float64, as `ssim`.

    Raises:
        ValueError: as `ssim`.
    """
    x, y = _to_8_bits(x, y)
    if min(x.shape[2:]) < MS_SSIM_SIDE:
        raise ValueError(
            f"got images of {x.shape[2]} x {x.shape[3]} pixels: MS-SSIM needs at least {MS_SSIM_SIDE} x {MS_SSIM_SIDE}."
        )
    weights = gaussian_window(WINDOW)
    factors = [
        ms_ssim_factors(exact(a), exact(b), weights, 0, 255) for a, b in zip(x.split(1), y.split(1), strict=True)
    ]
    return ms_ssim_of(torch.cat(factors)).mean(1).float().to(x.device)


def rounded(images: torch.Tensor) -> torch.Tensor:
    """Images in [-1, 1], clipped and rounded to the nearest of 256 levels."""
    return _levels(images).sub(127.5).div(127.5).to(images.dtype)


def _levels(images: torch.Tensor) -> torch.Tensor:
    return (images.float().clamp(-1, 1) * 127.5 + 127.5).round()


def gaussian_window(size: int) -> torch.Tensor:
    """Weights of SSIM's window along one side, (size,) float64: sigma 1.5 for 11 pixels, and in proportion."""
    margin = size // 2
    offsets = torch.arange(-margin, margin + 1, dtype=torch.float64)
    sigma = SIGMA * margin / (WINDOW // 2)
    return torch.softmax(-(offsets**2) / (2 * sigma**2), 0)


def ssim_map(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor, lowest: float, span: float) -> torch.Tensor:
    """SSIM at every position whose window lies within the image (Wang et al. 2004, eq. 13), with a gradient.

    Args:
        x: images (B, C, H, W) with values from `lowest` to `lowest` + `span`.
        y: images of the same shape.
        weights: of the window along one side, (size,), of the images' type and on their device.
        lowest: the value of black. The means alone depend on it; variances are most exact around 0.
        span: the range of values, L in the paper.

    Returns:
        (B C, 1, H - size + 1, W - size + 1).
    """
    luminance, covariance, variances = _ssim_parts(x, y, weights, lowest, span)
    return luminance * covariance / variances


def ms_ssim_factors(
    x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor, lowest: float, span: float
) -> torch.Tensor:
    """What MS-SSIM multiplies, scale by scale (Wang et al. 2003, eq. 7), with a gradient; see `ms_ssim_of`.

    Args:
        x: images (B, C, H, W) with both sides at least `MS_SSIM_SIDE`, as for `ssim_map`.
        y: images of the same shape.
        weights: see `ssim_map`.
        lowest: see `ssim_map`.
        span: see `ssim_map`.

    Returns:
        (B, C, 5): means over positions of contrast times structure, and at the coarsest scale of SSIM, without their
        exponents. Each scale is the one before averaged over 2 x 2 pixels; the last row or column of an odd number
        counts twice, as by the authors' code.
    """
    found = []
    for scale in range(len(SCALES)):
        if scale:
            x, y = (F.avg_pool2d(t, 2, ceil_mode=True, count_include_pad=False) for t in (x, y))
        luminance, covariance, variances = _ssim_parts(x, y, weights, lowest, span)
        coarsest = scale == len(SCALES) - 1
        found.append(((luminance * covariance if coarsest else covariance) / variances).mean((1, 2, 3)))
    return torch.stack(found, 1).unflatten(0, x.shape[:2])


def ms_ssim_of(factors: torch.Tensor) -> torch.Tensor:
    """MS-SSIM of the factors (..., 5), (...): their weighted geometric mean, 0 where one of them is not positive.

    There the gradient is 0 too: that of a power has no limit at 0.
    """
    positive = (factors > 0).all(-1)
    exponents = factors.new_tensor(SCALES)
    product = torch.where(positive.unsqueeze(-1), factors, 1).pow(exponents).prod(-1)
    return torch.where(positive, product, 0)


def _ssim_parts(
    x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor, lowest: float, span: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Luminance, and numerator and denominator of contrast times structure, at every position; see `ssim_map`."""

    def window_mean(values: torch.Tensor) -> torch.Tensor:
        channels = values.flatten(0, 1).unsqueeze(1)
        return F.conv2d(F.conv2d(channels, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))

    with torch.autocast(x.device.type, enabled=False):
        mean_x, mean_y = window_mean(x), window_mean(y)
        variances = window_mean(x * x) - mean_x**2 + window_mean(y * y) - mean_y**2
        covariance = window_mean(x * y) - mean_x * mean_y
    mean_x, mean_y = mean_x - lowest, mean_y - lowest
    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, 2 * covariance + c2, variances + c2


def _to_8_bits(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if x.shape != y.shape or x.ndim != 4 or not x.numel():
        videos = f": {NO_VIDEOS}" if x.ndim == 5 else ""
        raise ValueError(f"got images {tuple(x.shape)} and {tuple(y.shape)}: expected the same (B, C, H, W){videos}.")
    if not (x.is_floating_point() and y.is_floating_point()):
        raise ValueError(f"got images of {x.dtype} and {y.dtype}: expected floating point in [-1, 1].")
    return _levels(x), _levels(y)
