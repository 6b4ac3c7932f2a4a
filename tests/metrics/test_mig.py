"""Mutual information of latents and factors, and its gap, on codes for which they are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vae_plugin.metrics.disentanglement import information, leading_latents, mig

N = 4000


@pytest.fixture(scope="module")
def factors() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(size=(N, 3)))


def noise(columns: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((N, columns)))


def rotated(factors: torch.Tensor) -> torch.Tensor:
    """The first two factors turned by 45 degrees."""
    x, y, radius = factors.unbind(1)
    return torch.stack([x + y, x - y, radius], 1)


def test_information_of_perfect_and_of_independent_codes(factors):
    found = information(torch.cat([-3 * factors, noise(1)], 1), factors)
    assert found.matrix.shape == (4, 3)
    torch.testing.assert_close(found.normalised[:3].diag(), torch.ones(3, dtype=torch.float64), atol=1e-3, rtol=0)
    bias = 19**2 / (2 * N)  # of counts, Miller 1955
    assert found.matrix[3].max() < 1.5 * bias
    assert found.entropies.max() <= math.log(20)


def test_information_is_that_of_the_counts():
    z = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    v = torch.tensor([[0, 5], [0, 7], [1, 5], [1, 7]])
    found = information(z, v, bins=2)
    torch.testing.assert_close(found.matrix, torch.tensor([[math.log(2), 0.0]]).double())
    torch.testing.assert_close(found.entropies, torch.tensor([math.log(2)] * 2).double())


@pytest.mark.parametrize(
    ("codes", "low", "high"),
    [
        (lambda v: torch.cat([v, noise(3)], 1), 0.95, 1),  # perfect, with three more latents that say nothing
        (lambda v: v[:, [2, 0, 1]] * torch.tensor([-5.0, 2, 1]), 0.9, 1),  # permuted, flipped, scaled
        (lambda v: rotated(v)[:, :2], 0, 0.05),  # both axes say as much, and neither anything of the radius
        (lambda v: noise(3), 0, 0.02),  # random
        (lambda v: torch.cat([v, v], 1), 0, 1e-9),  # redundant
    ],
    ids=["perfect", "permuted", "rotated", "random", "redundant"],
)
def test_mig_of_known_codes(factors, codes, low, high):
    assert low <= mig(codes(factors), factors) <= high


def test_mig_with_one_latent_is_its_information(factors):
    z, v = factors[:, :1], factors[:, :1]
    assert mig(z, v) == pytest.approx(1)


def test_mig_of_a_hue_on_a_circle_and_on_a_line():
    hue = torch.from_numpy(np.random.default_rng(0).uniform(size=(N, 1)))
    turn = 2 * math.pi * hue
    assert mig(torch.cat([turn.cos(), turn.sin()], 1), hue, ["periodic"]) < 0.02
    assert mig(torch.cat([hue, noise(1)], 1), hue, ["periodic"]) > 0.9


def test_categories_are_not_binned():
    shape = torch.arange(N)[:, None] % 3 * 1000 + torch.tensor([0, 1, 999])[torch.arange(N) % 3][:, None]
    z = torch.tensor([0.0, 1.0, -1.0])[torch.arange(N) % 3][:, None]
    assert mig(z, shape) == pytest.approx(1)
    assert mig(z, shape.double(), ["categorical"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("codes", "factors", "kinds", "words"),
    [
        (torch.tensor([[0.0], [math.nan]]), torch.tensor([[0.0], [1.0]]), None, "codes hold NaN"),
        (torch.rand(4, 2), torch.tensor([[1.0, i] for i in range(4)]), None, r"factor\(s\) 0 .* the same for all 4"),
        (torch.rand(4, 2), torch.rand(5, 1), None, "N = 4"),
        (torch.rand(4, 2), torch.rand(4, 1), ["circular"], "continuous, periodic or categorical"),
        (torch.rand(4, 2), torch.rand(4, 1), ["periodic"] * 2, "for each of 1 factor"),
    ],
)
def test_what_cannot_be_scored_is_refused(codes, factors, kinds, words):
    with pytest.raises(ValueError, match=words):
        mig(codes, factors, kinds)


@pytest.mark.parametrize("seed", range(5))
def test_factors_that_were_shuffled_and_turned_over_find_their_latents(factors, seed):
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    codes = torch.cat([-2 * factors + 0.1 * noise(3), noise(2, seed=3)], 1)[:, order]
    assert leading_latents(information(codes, factors).normalised) == [order.tolist().index(i) for i in range(3)]


def test_a_latent_leads_one_factor_only():
    # 0 tells most of both factors, and more of the second
    assert leading_latents(torch.tensor([[0.5, 0.6], [0.4, 0.1], [0.3, 0.2]])) == [1, 0]
    with pytest.raises(ValueError, match="1 latents cannot lead 2 factors"):
        leading_latents(torch.tensor([[0.5, 0.6]]))
