from __future__ import annotations

import numpy as np
import pytest
import torch

from vae_plugin.metrics import coverage_and_density, expected_coverage


def normal(count: int, columns: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, columns)))


def by_hand(real: np.ndarray, generated: np.ndarray, k: int) -> tuple[float, float]:
    covered, in_balls = 0, 0
    for i, x in enumerate(real):
        radius = sorted(np.linalg.norm(x - other) for j, other in enumerate(real) if j != i)[k - 1]
        inside = sum(np.linalg.norm(x - y) <= radius for y in generated)
        covered += inside > 0
        in_balls += inside
    return covered / len(real), in_balls / (k * len(generated))


@pytest.mark.parametrize("k", [1, 3])
def test_coverage_and_density_by_hand(k):
    real, generated = normal(300, 4, 0), 0.5 + 0.7 * normal(40, 4, 1)
    found = coverage_and_density(real.view(300, 2, 2), generated.view(40, 2, 2).float().double(), k)
    assert found == pytest.approx(by_hand(real.numpy(), generated.float().double().numpy(), k))


def test_of_one_distribution_the_expectations_are_known():
    found = [coverage_and_density(normal(60, 3, seed), normal(40, 3, 1000 + seed), 5) for seed in range(60)]
    coverage, density = np.mean(found, 0)
    assert coverage == pytest.approx(expected_coverage(60, 40, 5), abs=0.02)
    assert density == pytest.approx(1, abs=0.04)
    assert expected_coverage(5, 7, 5) == 1  # of five images the fifth neighbour cannot be real


def test_equal_images_cover_each_other():
    real = torch.zeros(6, 3)
    assert coverage_and_density(real, real[:2], 2) == (1, 3)
    assert coverage_and_density(real, real[:2] + 1e-9, 2) == (0, 0)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="more than k = 5"):
        coverage_and_density(normal(5, 2, 0), normal(9, 2, 0))
    with pytest.raises(ValueError, match="real has D = 2"):
        coverage_and_density(normal(9, 2, 0), normal(9, 3, 0))
    with pytest.raises(ValueError, match="NaN"):
        coverage_and_density(normal(9, 2, 0), torch.full((9, 2), torch.nan))
