from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vae_plugin.metrics import psnr, ssim


def image_pair(shape: tuple[int, ...], noise: float = 20.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth 8-bit images and noisy copies of them, in [-1, 1]."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[: shape[2], : shape[3]]
    phase = rng.uniform(0, 6, (*shape[:2], 1, 1))
    x = np.round(127.5 + 120 * np.sin(0.35 * xx + 0.2 * yy + phase))
    y = np.clip(np.round(x + noise * rng.standard_normal(shape)), 0, 255)
    return from_8_bits(x), from_8_bits(y)


def from_8_bits(levels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(levels, dtype=np.float64) / 127.5 - 1).float()


def to_8_bits(x: torch.Tensor) -> np.ndarray:
    return np.floor((np.clip(x.double().numpy(), -1, 1) + 1) * 127.5 + 0.5)


def brute_force_ssim(x: np.ndarray, y: np.ndarray, window: int = 11, sigma: float = 1.5) -> float:
    """Wang et al. 2004, equation 13, one channel (H, W) in 8 bits, window by window in float64."""
    offsets = np.arange(window) - window // 2
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    weights = np.outer(weights, weights) / weights.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for i in range(x.shape[0] - window + 1):
        for j in range(x.shape[1] - window + 1):
            a, b = x[i : i + window, j : j + window], y[i : i + window, j : j + window]
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
            luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
            values.append(luminance * (2 * covariance + c2) / (var_a + var_b + c2))
    return float(np.mean(values))


def test_psnr_by_hand():
    x = torch.zeros(3, 1, 2, 2) - 1  # level 0
    y = x.clone()
    y[0] += 1 / 127.5  # every pixel off by one level: MSE 1
    y[1, 0, 0, 0] = 1  # one of four pixels off by 255 levels: MSE 255^2 / 4
    y[2] = 1  # every pixel off by 255 levels
    expected = [20 * math.log10(255), 10 * math.log10(4), 0.0]
    torch.testing.assert_close(psnr(x, y), torch.tensor(expected), rtol=1e-6, atol=1e-5)


def test_psnr_against_numpy():
    x, y = image_pair((4, 3, 16, 24))
    mse = ((to_8_bits(x) - to_8_bits(y)) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(psnr(x, y), 10 * np.log10(255**2 / mse), rtol=1e-6)


def test_images_are_rounded_not_truncated():
    levels = torch.full((1, 1, 2, 2), 100.0)
    x = levels / 127.5 - 1
    near, far = (levels + 0.4) / 127.5 - 1, (levels + 0.6) / 127.5 - 1
    assert psnr(x, near).item() == 100
    assert psnr(x, (levels - 0.4) / 127.5 - 1).item() == 100
    assert psnr(x, far).item() == pytest.approx(20 * math.log10(255))


def test_values_outside_the_range_are_clipped():
    x, y = image_pair((2, 3, 16, 16))
    x[:, :, :4] = 1
    beyond = x.clone()
    beyond[:, :, :4] = 1.7
    assert torch.equal(psnr(beyond, y), psnr(x, y))
    assert torch.equal(ssim(beyond, y), ssim(x, y))


def test_cap_of_psnr():
    x, _ = image_pair((2, 1, 600, 300))
    y = x.clone()
    y[1, 0, 0, 0] += 1 / 127.5  # MSE 1 / 180 000: 100.7 dB
    assert psnr(x, y).tolist() == [100, 100]
    y[1, 0, 0, :2] += 1 / 127.5  # MSE (4 + 1) / 180 000
    assert psnr(x, y)[1].item() == pytest.approx(10 * math.log10(255**2 * 180_000 / 5), abs=1e-3)


@pytest.mark.parametrize("shape", [(2, 3, 16, 21), (1, 1, 11, 14), (1, 4, 12, 11)])
def test_ssim_against_brute_force(shape):
    x, y = image_pair(shape)
    y[..., :4] = x[..., :4].mean()  # a flat border, where windows in padding would show
    expected = [
        np.mean([brute_force_ssim(to_8_bits(x)[i, c], to_8_bits(y)[i, c]) for c in range(shape[1])])
        for i in range(shape[0])
    ]
    np.testing.assert_allclose(ssim(x, y), expected, atol=1e-4)
    assert 0.1 < min(expected) <= max(expected) < 0.95  # neither trivial end


@pytest.mark.parametrize("levels", [(0, 3), (254, 255), (128, 100)])
def test_ssim_of_flat_images_is_the_luminance_term(levels):
    a, b = levels
    x, y = from_8_bits(np.full((1, 1, 13, 13), a)), from_8_bits(np.full((1, 1, 13, 13), b))
    c1 = (0.01 * 255) ** 2
    assert ssim(x, y).item() == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), abs=1e-3)


@pytest.mark.parametrize(("side", "window"), [(3, 3), (4, 3), (5, 5), (6, 5), (7, 7), (8, 7), (9, 9), (10, 9)])
def test_ssim_of_small_images(side, window):
    x, y = image_pair((2, 1, side, 14))
    expected = [
        brute_force_ssim(a[0], b[0], window, 1.5 * (window - 1) / 10)
        for a, b in zip(to_8_bits(x), to_8_bits(y), strict=True)
    ]
    np.testing.assert_allclose(ssim(x, y), expected, atol=2e-4)
    torch.testing.assert_close(ssim(x, x), torch.ones(2))
    torch.testing.assert_close(ssim(x.mT, y.mT), ssim(x, y), rtol=0, atol=2e-4)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_values_are_per_image(metric):
    x, y = image_pair((3, 3, 16, 16))
    y[1] = x[1]
    together = metric(x, y)
    assert together.shape == (3,)
    assert together.dtype == torch.float32
    torch.testing.assert_close(together, torch.cat([metric(x[i : i + 1], y[i : i + 1]) for i in range(3)]))
    assert together[1].item() == pytest.approx(100 if metric is psnr else 1)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_precision_of_the_caller_does_not_matter(metric):
    x, y = image_pair((2, 3, 16, 16))
    expected = metric(x, y)
    assert torch.equal(metric(x.double(), y), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(metric(x, y), expected)
    with torch.inference_mode():
        assert torch.equal(metric(x, y), expected)
    # float16 has 11 bits: the 256 levels survive it
    assert torch.equal(metric(x.half(), y.half()), expected)
    assert not metric(x.requires_grad_(), y).requires_grad


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_wrong_images_are_refused(metric):
    x = torch.zeros(2, 3, 16, 16)
    for a, b in ((x, x[:1]), (x[0], x[0]), (x[:0], x[:0])):
        with pytest.raises(ValueError, match=r"expected the same \(B, C, H, W\)"):
            metric(a, b)
    with pytest.raises(ValueError, match="uint8"):
        metric(x.byte(), x.byte())


def test_ssim_refuses_images_below_3_pixels():
    with pytest.raises(ValueError, match="2 x 16 pixels"):
        ssim(torch.zeros(1, 1, 2, 16), torch.zeros(1, 1, 2, 16))
