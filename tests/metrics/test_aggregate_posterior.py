from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import distributions

from vae_plugin.metrics import completeness
from vae_plugin.metrics.aggregate import gaussian_kl, mmd_to_prior
from vae_plugin.metrics.completeness import AggregatePosterior
from vae_plugin.models.posteriors import DiagonalGaussian


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def test_gaussian_kl_as_torch_has_it():
    factor = torch.tril(normal(4, 4))
    mean, covariance = normal(4, seed=1), factor @ factor.T + torch.eye(4)
    expected = distributions.kl_divergence(
        distributions.MultivariateNormal(mean, covariance),
        distributions.MultivariateNormal(torch.zeros(4).double(), torch.eye(4).double()),
    )
    assert gaussian_kl(mean, covariance) == pytest.approx(expected.item(), rel=1e-9)
    assert gaussian_kl(torch.zeros(3), torch.eye(3)) == 0
    assert gaussian_kl(torch.zeros(2), torch.zeros(2, 2)) == math.inf


def test_mmd_by_numerical_integration():
    """The kernel is a product over dimensions, and so are its expectations over the prior."""
    z = 0.3 + 1.5 * normal(60, 3)
    y = torch.linspace(-9, 9, 1801, dtype=torch.float64)
    p = torch.exp(-y.square() / 2) / math.sqrt(2 * math.pi) * 0.01
    k = lambda a, b: torch.exp(-(a[..., None] - b).square() / 6)  # noqa: E731
    across = (k(z, y) @ p).prod(1).mean()
    prior = (p @ k(y, y) @ p) ** 3
    within = sum(k(a, b).diag().prod() for i, a in enumerate(z) for j, b in enumerate(z) if i != j) / (60 * 59)
    assert mmd_to_prior(z) == pytest.approx(float(within - 2 * across + prior), rel=1e-9)


def test_mmd_of_the_prior_is_zero_in_the_mean():
    found = [mmd_to_prior(normal(40, 2, seed=seed)) for seed in range(400)]
    assert np.mean(found) == pytest.approx(0, abs=4 * np.std(found) / 20)
    assert np.std(found) > 1e-3
    with pytest.raises(ValueError, match="at least two"):
        mmd_to_prior(torch.zeros(1, 3))


@pytest.mark.parametrize("shape", [(5,), (5, 2, 3)])
def test_moments_of_the_aggregate_posterior(shape):
    mean, logvar = 0.5 * normal(200, *shape), normal(200, *shape, seed=1) - 1
    both, halves = AggregatePosterior(), [AggregatePosterior(), AggregatePosterior()]
    for accumulator, rows in ((both, range(200)), (halves[0], range(150, 200)), (halves[1], range(150))):
        accumulator.update(DiagonalGaussian(mean[list(rows)], logvar[list(rows)]), rows)
    halves[0].merge(halves[1])
    vectors = mean.float().double().movedim(1, -1).reshape(-1, 5).numpy()
    variances = logvar.float().exp().double().movedim(1, -1).reshape(-1, 5).numpy()
    covariance = np.cov(vectors.T, bias=True) + np.diag(variances.mean(0))
    expected = gaussian_kl(torch.from_numpy(vectors.mean(0)), torch.from_numpy(covariance))
    assert both.result()["aggregate_kl_nats"] == pytest.approx(expected, rel=1e-6)
    assert halves[0].result() == pytest.approx(both.result(), rel=1e-9)


def test_an_aggregate_posterior_that_is_the_prior():
    accumulator, mean = AggregatePosterior(), 0.6 * normal(4000, 3)
    q = DiagonalGaussian(mean, torch.full_like(mean, math.log(1 - 0.36)))
    accumulator.update(q, range(len(mean)))
    found = accumulator.result()
    assert found["aggregate_kl_nats"] < 2 * 3 * 6 / (4 * 4000)
    assert abs(found["aggregate_mmd"]) < 1e-3
    assert AggregatePosterior().result() == {}


def test_samples_of_the_first_images_are_kept_in_whatever_order_they_come(monkeypatch):
    monkeypatch.setattr(completeness, "MOST_SAMPLES", 8)
    mean = normal(60, 3)
    few, all_of_them = AggregatePosterior(), AggregatePosterior()
    for start in np.random.default_rng(0).permutation(range(0, 60, 4)):
        rows = range(start, start + 4)
        all_of_them.update(DiagonalGaussian(mean[list(rows)], torch.zeros(4, 3)), rows)
        assert len(all_of_them._samples) <= 16
    few.update(DiagonalGaussian(mean[:8], torch.zeros(8, 3)), range(8))
    assert all_of_them.result()["aggregate_mmd"] == few.result()["aggregate_mmd"]
