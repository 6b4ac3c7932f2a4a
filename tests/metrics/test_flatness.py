"""What a constant image gets, from "models" that add a known grid, border or shift."""

import math

import pytest
import torch

from vae_plugin.errors import NotFiniteError
from vae_plugin.metrics import flat_colours

RATIO, SIDE = 4, 40


def measured(pattern, channels=3, height=SIDE, width=SIDE, ratio=RATIO):
    """Of a model that adds a pattern (H, W), in levels."""
    return flat_colours(lambda x: x + pattern / 127.5, channels, height, width, ratio)


def test_nothing_is_added():
    result = flat_colours(lambda x: x, 3, SIDE, SIDE, RATIO)
    assert result.colours == 5 + 6
    assert result.metrics() == {
        "flat_shift": 0, "flat_inside_rms": 0, "flat_border_rms": 0, "flat_grid_rms": 0, "flat_grid_share": 0
    }  # fmt: skip
    assert not result.energy.any()


def test_a_grid_has_all_its_energy_at_the_period_of_the_compression_ratio():
    """A line of 3 levels at the first row of every block: (1/4) (3/4) 3^2 is its variance."""
    grid = torch.zeros(SIDE, SIDE)
    grid[::RATIO] = 3
    result = measured(grid)
    rms = math.sqrt(9 * 3 / 16)
    assert result.inside == pytest.approx(rms, rel=1e-4)
    assert result.grid == pytest.approx(rms, rel=1e-4)
    assert result.grid_share == pytest.approx(1, rel=1e-4)
    assert result.shift == pytest.approx(3 / 4, rel=1e-4)
    assert result.energy[0, 0] == pytest.approx((3 * 3 / 4) ** 2, rel=1e-3)


def test_the_share_of_a_grid_is_that_of_its_frequencies():
    """A wave at k = 1 of the grid beside one between its frequencies: powers 1 and 4."""
    x = torch.arange(SIDE)
    inside = SIDE - 4 * RATIO  # 24 pixels: the second wave has whole periods of 8 there
    assert inside % 8 == 0
    waves = math.sqrt(2) * (torch.sin(2 * math.pi * x / RATIO) + 2 * torch.sin(2 * math.pi * x / 8))
    result = measured(waves.expand(SIDE, SIDE))
    assert result.inside == pytest.approx(math.sqrt(5), rel=1e-4)
    assert result.grid_share == pytest.approx(1 / 5, rel=1e-4)
    spectrum = torch.fft.rfft(waves[2 * RATIO : -2 * RATIO].double()).abs() ** 2
    at_grid = spectrum[inside // RATIO :: inside // RATIO]
    assert result.grid_share == pytest.approx((at_grid.sum() / spectrum.sum()).item(), rel=1e-3)


def test_noise_has_the_share_of_one_in_the_number_of_blocks():
    noise = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    result = measured(noise)
    assert result.grid_share == pytest.approx(1 / 36, rel=0.7)
    assert result.inside == pytest.approx(1, rel=0.1)


def test_a_border_is_apart_from_the_inside():
    border = torch.zeros(SIDE, SIDE)
    border[:2] = 6  # within the first block, 2 of 4 rows along one of four sides
    result = measured(border)
    assert result.inside == result.grid == result.shift == 0
    pixels = SIDE**2 - (SIDE - 2 * RATIO) ** 2
    assert result.border == pytest.approx(6 * math.sqrt(2 * SIDE / pixels), rel=1e-4)
    assert torch.equal(result.energy > 1, border > 0)


def test_a_shift_is_no_deviation():
    shift = torch.tensor([5.0, 0.0, -4.0]).view(3, 1, 1)
    result = measured(shift)
    assert result.shift == pytest.approx(3, rel=1e-4)
    assert result.inside == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("channels", "colours"), [(1, 5), (2, 7), (3, 11), (4, 11), (13, 11)])
def test_colours_are_different_and_of_every_channel_count(channels, colours):
    seen = []
    flat_colours(lambda x: seen.append(tuple(x[0, :, 0, 0].tolist())) or x, channels, 8, 12, 2)
    assert len(set(seen)) == len(seen) == colours


@pytest.mark.parametrize("size", [(7, 9), (4, 4), (3, 30), (16, 40)])
def test_small_images_have_what_can_be_measured_of_them(size):
    result = measured(torch.ones(()), height=size[0], width=size[1])
    assert result.metrics()["flat_shift"] == pytest.approx(1, rel=1e-4)
    assert (result.grid is None) == (min(size) < 8 or size[0] % RATIO > 0)
    assert measured(torch.ones(()), ratio=1).grid is None  # no grid to have


def test_what_is_not_finite_is_refused():
    with pytest.raises(NotFiniteError, match="an image of the colour"):
        flat_colours(lambda x: x * math.nan, 3, 8, 8, 2)
