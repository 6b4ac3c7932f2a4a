"""Factors, continuity and completeness of a model, as measures of `evaluate`."""

from __future__ import annotations

import json

import pytest
import torch

from support.tiny_diffusers import tiny
from vae_plugin import AutoencoderVAE
from vae_plugin.autoencoders import adapt
from vae_plugin.cli import main
from vae_plugin.commands.evaluate import EvaluateOptions
from vae_plugin.commands.latent_quality import table
from vae_plugin.datasets import Circles, find_factors
from vae_plugin.metrics import FactorScores, Regularity, Seen, disentanglement, evaluate
from vae_plugin.metrics.disentanglement import learners
from vae_plugin.models.posteriors import DiagonalGaussian
from vae_plugin.options import parse

SCORES = {"mig", "modularity", "factor_vae_score", "beta_vae_score", "sap"} | {
    f"dci_{name}" for name in ("disentanglement", "completeness", "informativeness")
}
CIRCLES = Circles(400, 16, seed=1)


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return AutoencoderVAE(
        in_channels=1, out_channels=1, network="mlp", hidden_sizes=[8], latent_channels=3, sample_size=16
    ).eval()


@pytest.fixture(scope="module")
def folder(vae, tmp_path_factory):
    place = tmp_path_factory.mktemp("model") / "vae"
    vae.save_pretrained(place)
    return place


def test_scores_are_those_of_the_posterior_means(vae):
    images, factors = CIRCLES.render(CIRCLES.factors), find_factors(CIRCLES)
    measure = FactorScores(factors)
    found = evaluate(vae, images.split(150), measures=[measure])
    assert found.keys() >= SCORES
    with torch.no_grad():
        codes = adapt(vae).posterior(images).mean.flatten(1)
    assert found["mig"] == pytest.approx(disentanglement.mig(codes, CIRCLES.factors), abs=1e-6)
    assert found["sap"] == pytest.approx(disentanglement.sap(codes, CIRCLES.factors), abs=1e-6)
    information = disentanglement.information(codes, CIRCLES.factors).normalised
    for name, column in zip(factors.names, information.T, strict=True):
        assert found.per_channel[f"information_{name}"] == pytest.approx(column.tolist(), abs=1e-6)
    assert any("from 400 images" in note for note in measure.notes)


def seen_of(codes, numbers):
    q = DiagonalGaussian(codes, torch.zeros_like(codes))
    images = torch.zeros(len(codes), 1, 8, 8)
    return Seen(None, images, images, q, numbers)


def test_perfect_latents_beside_inactive_ones():
    v = CIRCLES.factors
    noise = 1e-3 * torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    measure = FactorScores(find_factors(CIRCLES))
    codes = torch.cat([6 * v, noise], 1)
    for rows in (range(300, 400), range(300)):  # in any order
        measure.update(seen_of(codes[list(rows)], tuple(rows)))
    found = measure.result()
    assert found["mig"] > 0.8
    assert found["modularity"] > 0.95  # noise does not count
    assert min(found[name] for name in SCORES - {"mig", "modularity"}) > 0.9


def test_without_scikit_learn_the_others_are_measured(monkeypatch):
    monkeypatch.setattr(learners, "is_installed", lambda: False)
    monkeypatch.setattr("vae_plugin.metrics.factor_scores.is_installed", lambda: False)
    measure = FactorScores(find_factors(CIRCLES))
    measure.update(seen_of(CIRCLES.factors, tuple(range(400))))
    assert SCORES & measure.result().keys() == {"mig", "modularity", "factor_vae_score", "sap"}
    assert any("pip install 'vae-plugin[factors]'" in note for note in measure.notes)


def test_many_latents_get_what_can_be_afforded():
    measure = FactorScores(find_factors(CIRCLES))
    measure.update(seen_of(9 * CIRCLES.factors.repeat(1, 100), tuple(range(400))))
    assert SCORES & measure.result().keys() == {"mig", "modularity", "sap"}
    assert sum("300" in note for note in measure.notes) == 2


def test_continuity_and_completeness_of_a_model(vae):
    images = CIRCLES.render(CIRCLES.factors[:60])
    measure = Regularity(adapt(vae))
    found = evaluate(vae, images.split(25), measures=[measure])
    assert found["continuity_mean"] >= 1
    assert found["continuity_pairs"] == 30
    assert found["prior_coverage"] <= 1 == pytest.approx(found["image_density"], abs=0.5)
    assert found["image_coverage"] == pytest.approx(found["expected_coverage"], abs=0.2)
    with torch.no_grad():
        q = adapt(vae).posterior(images)
    mean, variance = q.mean.flatten(1).double(), q.logvar.exp().flatten(1).double()
    covariance = torch.cov(mean.T, correction=0) + variance.mean(0).diag()
    prior = torch.distributions.MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    aggregate = torch.distributions.MultivariateNormal(mean.mean(0), covariance)
    expected = torch.distributions.kl_divergence(aggregate, prior)
    assert found["aggregate_kl_nats"] == pytest.approx(expected.item(), rel=1e-4)
    assert not measure.notes


def test_a_model_without_a_prior_has_continuity_alone():
    adapter = adapt(tiny("VQModel").eval())
    measure = Regularity(adapter)
    found = evaluate(adapter, [Circles(4, 16, 3).render(Circles(4, 16, 3).factors)], measures=[measure])
    assert "continuity_worst" in found
    assert "prior_coverage" not in found
    assert "aggregate_kl_nats" not in found
    assert measure.notes == ["no completeness: VQModel has no prior over its latents."]


def test_evaluate_scores_factors_and_draws_them(folder, tmp_path, capsys):
    words = ["--factors", "--factor_picture", str(tmp_path / "map.png"), "--output_file", str(tmp_path / "out.json")]
    assert main(["evaluate", str(folder), "--max_images", "200", *words]) == 0
    assert json.loads((tmp_path / "out.json").read_text()).keys() >= SCORES
    said = capsys.readouterr().err
    assert "radius" in said
    assert "z2" in said
    assert (tmp_path / "map.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--factor_columns", "x"], "--factor_columns"),
        (["--factor_picture", "a.png"], "--factor_picture needs --factors or --factor_columns"),
        (["--data_dir", "nowhere", "--factors"], "--factors"),
        (["--data_dir", "nowhere", "--factor_periods", "angle=360"], "--factor_periods"),
        (["--factor_columns", "angle", "--factor_periods", "angle=0"], "its period must be a number above 0"),
    ],
)
def test_options_without_an_effect_are_refused(folder, words, message, capsys):
    assert main(["evaluate", str(folder), *words]) == 2
    assert message in capsys.readouterr().err


def test_the_table_has_the_latents_that_tell_most_and_counts_the_others():
    parts = [0.1] * 60 + [0.9] * 20 + [0.01] * 3
    heading, _, *rows, others, silent = table({"x": parts, "y": [0.0] * 83}, "m")
    assert len(rows) == 64
    assert [row.split()[0] for row in rows[-20:]] == [f"z{i}" for i in range(60, 80)]
    assert "of m" in heading
    assert others.startswith("16 further")
    assert silent.startswith("3 further")


def test_a_single_image_has_no_scores_and_is_said_so(folder, capsys):
    assert main(["evaluate", str(folder), "--max_images", "1", "--factors"]) == 0
    said = capsys.readouterr()
    assert "x, y, radius are the same in all images, and left out." in said.err
    assert "no scores of factors" in said.err
    assert "MIG" not in said.out


def test_columns_stand_behind_their_flag():
    words = ["m", "--data_dir", "d", "--factor_columns", "x", "angle", "--factor_periods", "angle=360"]
    options = parse(EvaluateOptions, words, prog="p")
    assert options.factor_columns == ("x", "angle")
    assert options.factor_periods == ("angle=360.0",)
