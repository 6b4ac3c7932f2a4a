"""Scores of disentanglement on codes whose score is known, and against the package disent."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from support import known_codes
from vae_plugin.errors import UserError
from vae_plugin.metrics.disentanglement import (
    Fixed,
    FixedFactors,
    beta_vae_score,
    dci,
    factor_vae_score,
    information,
    learners,
    mig,
    modularity,
    sap,
)

BY_DISENT = json.loads((Path(__file__).parents[1] / "fixtures/disentanglement/by_disent.json").read_text())
V = torch.from_numpy(known_codes.categories())
CODES = {kind: torch.from_numpy(known_codes.codes(kind, V.numpy())) for kind in BY_DISENT}
kinds_of_codes = pytest.mark.parametrize("kind", list(BY_DISENT))


def uniform(count: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(size=(count, columns)))


@kinds_of_codes
def test_mig_and_sap_as_by_disent(kind):
    assert mig(CODES[kind], V) == pytest.approx(BY_DISENT[kind]["mig"], abs=1e-9)
    assert sap(CODES[kind], V) == pytest.approx(BY_DISENT[kind]["sap"], abs=2e-3)
    continuous = sap(CODES[kind], V, ["continuous"] * 3)
    assert continuous == pytest.approx(BY_DISENT[kind]["sap of continuous factors"], abs=1e-9)


@pytest.mark.slow
@kinds_of_codes
def test_dci_as_by_disent(kind):
    found = dci(CODES[kind], V)
    assert found.informativeness == pytest.approx(BY_DISENT[kind]["informativeness_test"], abs=5e-3)
    for name in ("disentanglement", "completeness"):  # trees break ties at random
        assert getattr(found, name) == pytest.approx(BY_DISENT[kind][name], abs=0.02)


@kinds_of_codes
def test_score_of_factor_vae_as_by_disent(kind):
    found = factor_vae_score(CODES[kind], FixedFactors(CODES[kind], V).groups())
    assert found == pytest.approx(BY_DISENT[kind]["factor_vae"], abs=0.06)  # 500 votes are counted


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("perfect", 1, 1), ("redundant", 1, 1), ("random", 0.28, 0.39), ("rotated", 0.6, 1)],
)
def test_score_of_beta_vae(kind, low, high):
    assert low <= beta_vae_score(FixedFactors(CODES[kind], V).pairs(900, 16)) <= high


def test_two_turned_factors_of_one_range_cannot_be_told_apart():
    v = uniform(2000, 3)
    z = torch.stack([v[:, 0] + v[:, 1], v[:, 0] - v[:, 1], v[:, 2]], 1)
    assert beta_vae_score(FixedFactors(z, v).pairs(size=16)) == pytest.approx(2 / 3, abs=0.08)
    assert factor_vae_score(z, FixedFactors(z, v).groups()) == pytest.approx(2 / 3, abs=0.08)


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    # of random codes nothing is known but that their information is the bias of counts
    [("redundant", 0.999, 1), ("rotated", 0.65, 0.8), ("random", 0, 0.75)],
)
def test_modularity(kind, low, high):
    assert low <= modularity(CODES[kind], V) <= high


def test_modularity_by_its_definition():
    found = information(CODES["mixed"], V).matrix.numpy()
    expected = []
    for row in found:
        best = row.argmax()
        others = sum(value**2 for f, value in enumerate(row) if f != best)
        expected.append(1 - others / (row[best] ** 2 * 2))
    assert modularity(CODES["mixed"], V) == pytest.approx(np.mean(expected), rel=1e-12)
    with_constant = torch.cat([CODES["mixed"], torch.zeros(known_codes.N, 1)], 1)
    assert modularity(with_constant, V) == pytest.approx(np.mean([*expected, 0]), rel=1e-12)


def test_sap_of_continuous_factors_is_the_squared_correlation():
    v = uniform(500, 2)
    z = torch.cat([v[:, :1] + 0.3 * uniform(500, 1, seed=3), v[:, 1:].square()], 1)
    r2 = np.corrcoef(z.T.numpy(), v.T.numpy())[:2, 2:] ** 2
    assert sap(z, v) == pytest.approx(np.abs(r2[0] - r2[1]).mean(), rel=1e-9)


@pytest.mark.parametrize("seam", [0.0, 0.37])
def test_a_periodic_factor_on_a_circle_of_two_latents(seam):
    """What each docstring says of cos and sin, beside a further factor on a latent of its own; wherever the seam is."""
    v = uniform(1200, 2)
    turn = 2 * math.pi * (v[:, 0] + seam)
    z, kinds = torch.stack([turn.cos(), turn.sin(), v[:, 1]], 1), ["periodic", "continuous"]
    assert mig(z, v, kinds) == pytest.approx(0.5, abs=0.05)  # 0 of the hue
    assert sap(z, v, kinds) == pytest.approx(0.5, abs=0.01)
    assert modularity(z, v, kinds) > 0.97
    assert factor_vae_score(z, FixedFactors(z, v, kinds).groups()) == 1
    found = dci(z, v, kinds)
    assert found.disentanglement > 0.98
    assert found.completeness == pytest.approx(1 - math.log(2) / math.log(3) / 2, abs=0.02)
    assert found.informativeness > 0.98


def test_a_periodic_factor_on_one_latent():
    v = uniform(1200, 2)
    kinds = ["periodic", "continuous"]
    assert mig(v, v, kinds) > 0.9
    assert sap(v, v, kinds) == pytest.approx((1 + 6 / math.pi**2) / 2, abs=0.02)
    turned = torch.stack([v[:, 0] + 3, v[:, 1]], 1)  # in turns, 0.2 and 3.2 are the same
    assert sap(v, turned, kinds) == pytest.approx(sap(v, v, kinds), rel=1e-6)
    assert mig(v, turned, kinds) == pytest.approx(mig(v, v, kinds), abs=0.01)


def test_dci_of_continuous_factors():
    v = uniform(600, 3)
    noise = torch.from_numpy(np.random.default_rng(5).standard_normal((600, 2)))
    assert min(dci(torch.cat([v, noise], 1), v)) > 0.97
    redundant = dci(torch.cat([v[:, :2], v[:, :2].square()], 1), v[:, :2])
    assert redundant.disentanglement > 0.98
    assert 0.4 < redundant.completeness < 0.6  # trees choose either of two, whose entropy to the base 4 is 1/2
    random = dci(noise, v)
    assert random.informativeness < 0.1
    assert dci(v[:, :1], v[:, :1]).completeness == 1


def test_latents_that_never_vary_get_no_votes():
    z = torch.cat([torch.zeros(known_codes.N, 1), CODES["perfect"]], 1)
    assert factor_vae_score(z, FixedFactors(z, V).groups()) == 1


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="at least two factors"):
        modularity(CODES["perfect"], V[:, :1])
    with pytest.raises(ValueError, match="no latent varies"):
        factor_vae_score(torch.zeros(9, 2), Fixed(torch.zeros(4, 3, 2), torch.arange(4)))
    with pytest.raises(ValueError, match=r"expected \(G, L, 2\)"):
        factor_vae_score(torch.rand(9, 2), Fixed(torch.zeros(4, 3, 5), torch.arange(4)))
    with pytest.raises(ValueError, match=r"expected \(G, L, 2, D\)"):
        beta_vae_score(Fixed(torch.zeros(4, 3, 5), torch.arange(4)))
    with pytest.raises(ValueError, match="too few"):
        dci(torch.rand(2, 2), torch.tensor([[0.0], [1.0]]))
    with pytest.raises(ValueError, match="too few"):
        sap(torch.rand(2, 2), torch.tensor([[0], [1]]))


def test_without_scikit_learn_one_sentence_says_so(monkeypatch):
    monkeypatch.setattr(learners, "is_installed", lambda: False)
    with pytest.raises(UserError, match=r"pip install 'vae-plugin\[factors\]'"):
        dci(CODES["perfect"], V)
    assert sap(CODES["perfect"], V, ["continuous"] * 3) > 0.9


def test_images_of_a_group_share_the_value_of_its_factor():
    positions = torch.arange(known_codes.N, dtype=torch.float32)[:, None]
    fixed = FixedFactors(positions, V)
    groups, pairs = fixed.groups(60, 9), fixed.pairs(60, 9)
    for found in (groups, pairs):
        assert sorted(found.factor.unique().tolist()) == [0, 1, 2]
        for codes, factor in zip(found.codes.long()[..., 0], found.factor.tolist(), strict=True):
            values = V[codes, factor]
            same = values if values.ndim == 2 else values[None]
            assert bool((same == same[:, :1]).all())
    first, second = pairs.codes.unbind(2)
    assert (first != second).float().mean() > 0.98
    assert len(groups.codes.unique()) > 400
