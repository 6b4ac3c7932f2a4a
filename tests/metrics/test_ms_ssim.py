"""MS-SSIM, which a loss and a measure share."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_msssim
import torch
from scipy import ndimage

from vae_plugin.errors import UserError
from vae_plugin.metrics.reconstruction import gaussian_window, ms_ssim_factors, ms_ssim_of
from vae_plugin.training.losses.pixels import PIXEL_LOSSES


def image_pair(*shape: int, noise: float = 0.3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Waves and noisy copies of them, in float64."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.arange(shape[2], dtype=torch.float64), torch.arange(shape[3], dtype=torch.float64)
    phase = torch.rand(*shape[:2], 1, 1, generator=generator, dtype=torch.float64) * 6
    x = 0.8 * torch.sin(0.11 * rows[:, None] + 0.29 * columns + phase)
    return x, (x + noise * torch.randn(shape, generator=generator, dtype=torch.float64)).clamp(-1, 1)


def in_scipy(x: np.ndarray, y: np.ndarray, span: float) -> float:
    """Wang et al. 2003 for one channel from 0 to `span`, with the filters of the authors' code."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2

    def means(t):
        return ndimage.correlate(t, window)[5:-5, 5:-5]

    product = 1.0
    for scale, exponent in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
        if scale:  # the origin moves the window of 2 to a pixel and the next
            x, y = (ndimage.uniform_filter(t, 2, mode="reflect", origin=-1)[::2, ::2] for t in (x, y))
        a, b = means(x), means(y)
        factor = (2 * (means(x * y) - a * b) + c2) / (means(x * x) - a * a + means(y * y) - b * b + c2)
        if scale == 4:
            factor = factor * (2 * a * b + c1) / (a * a + b * b + c1)
        product *= factor.mean() ** exponent
    return product


def ms_ssim(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return ms_ssim_of(ms_ssim_factors(x, y, gaussian_window(11), -1, 2))


@pytest.mark.parametrize("shape", [(2, 3, 176, 192), (1, 2, 161, 187), (1, 1, 230, 163)])
def test_it_is_the_papers(shape):
    x, y = image_pair(*shape)
    expected = [
        [in_scipy(a, b, 2) for a, b in zip(*pair, strict=True)]
        for pair in zip((x + 1).numpy(), (y + 1).numpy(), strict=True)
    ]
    np.testing.assert_allclose(ms_ssim(x, y), expected, rtol=1e-10)
    assert 0.2 < np.min(expected) < 0.97
    loss = PIXEL_LOSSES["ms-ssim"](y.float(), x.float())
    assert loss.item() == pytest.approx(1 - np.mean(expected), abs=1e-5)
    assert PIXEL_LOSSES["ms-ssim"](x, x).item() == pytest.approx(0, abs=1e-12)


def test_it_is_that_of_another_library_with_its_gradient():
    """Of even sides: that library adds a row of zeros to odd ones."""
    x, y = image_pair(2, 3, 176, 176)
    ours, theirs = y.clone().requires_grad_(), y.clone().requires_grad_()
    loss = PIXEL_LOSSES["ms-ssim"](ours, x)
    window = gaussian_window(11).expand(3, 1, 1, 11)
    expected = 1 - pytorch_msssim.ms_ssim((theirs + 1) / 2, (x + 1) / 2, data_range=1, win=window)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-8, atol=0)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-12)


def test_the_gradient_is_that_of_finite_differences():
    """Along four directions, of odd sides."""
    x, y = image_pair(1, 1, 163, 161)
    directions = torch.randn(4, 1, 1, 163, 161, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    along = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda t: PIXEL_LOSSES["ms-ssim"](y + (t.view(4, 1, 1, 1, 1) * directions).sum(0), x), (along,), eps=1e-5
    )


@pytest.mark.parametrize("worse", [lambda x: -x, torch.zeros_like, lambda x: 1e-20 * x])
def test_opposite_and_flat_images_have_finite_gradients(worse):
    x, _ = image_pair(2, 1, 161, 161)
    y = torch.cat([worse(x[:1]), 0.5 * x[1:]]).float().requires_grad_()
    loss = PIXEL_LOSSES["ms-ssim"](y, x.float())
    loss.backward()
    assert 0.5 < loss.item() <= 1.0001
    assert y.grad.isfinite().all()
    assert y.grad[1].any()  # the other image of the batch goes on


def test_images_without_room_for_the_coarsest_scale_are_refused():
    x, y = image_pair(1, 1, 160, 200)
    with pytest.raises(
        UserError, match=r"11 x 11 pixels at 5 scales, and the images have a side of 160: give a .* 161"
    ):
        PIXEL_LOSSES["ms-ssim"](y, x)
