"""The interval of a mean, against printed tables of Student's t and against simulation."""

import math

import pytest
import torch

from vae_plugin.commands.report import _cell
from vae_plugin.metrics.evaluation import spread
from vae_plugin.metrics.interval import half_width_95, student_t_95

TABLE = {  # two-sided, 95 %: R's qt(0.975, df)
    1: 12.7062047, 2: 4.3026527, 3: 3.1824463, 4: 2.7764451, 5: 2.5705818, 9: 2.2621572, 10: 2.2281389, 30: 2.0422725,
    100: 1.9839715, 1000: 1.9623391, 1_000_000: 1.9599664,
}  # fmt: skip


@pytest.mark.parametrize("degrees", TABLE)
def test_the_quantiles_are_those_of_the_table(degrees):
    assert student_t_95(degrees) == pytest.approx(TABLE[degrees], rel=1e-7)


def test_the_interval_of_few_values_holds_the_mean_as_often_as_it_says():
    values = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    widths = student_t_95(3) * values.std(1) / 2
    assert half_width_95(values[0]) == pytest.approx(widths[0].item())
    held = (values.mean(1).abs() <= widths).double().mean().item()
    assert held == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 20_000))


@pytest.mark.parametrize(("psnr", "median"), [([4.0, 1.0, 3.0, 2.0], 2.5), ([9.0, 1.0, 5.0], 5.0), ([7.0], 7.0)])
def test_the_median_of_an_even_number_lies_between_the_middle_two(psnr, median):
    assert spread(torch.tensor(psnr, dtype=torch.float64))["psnr_median"] == median


@pytest.mark.parametrize(
    ("difference", "low", "high", "shown"),
    [
        (698.86, 697.9, 699.8, "+698.9, +697.9 to +699.8"),
        (-441.2, -507.3, -377.8, "-441, -507 to -378"),
        (1.864, 1.43, 2.31, "+1.86, +1.43 to +2.31"),
        (1, 1, 1, "+1, +1 to +1"),
    ],
)
def test_the_bounds_of_a_difference_are_told_apart_in_the_table(difference, low, high, shown):
    values = {"kl_nats": 709.8, "ci95": {"kl_nats": 123.4}}
    between = {"kl_nats": {"difference": difference, "low": low, "high": high}}
    assert str(_cell("kl_nats", values, between)) == f"709.8 ± 123  ({shown})"
