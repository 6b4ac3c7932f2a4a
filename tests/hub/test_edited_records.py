"""What people have changed in run.json and metrics.json by hand: one sentence, or a card."""

import json
from dataclasses import fields

import pytest

from support.tiny_exports import vqvae
from vae_plugin.autoencoders import adapt
from vae_plugin.cli import main
from vae_plugin.errors import UserError
from vae_plugin.hub.card import model_card
from vae_plugin.hub.record import RunRecord, read_metrics

VALUES = ["a\nb", None, True, 10**400, [1], {"a": None}]
RUN = {
    "dataset": "photographs",
    "base_model": "base",
    "base_model_id": "user/base",
    "part": "decoder",
    "resolution": 16,
}
METRICS = {"psnr": 20.5, "psnr_std": 1.0, "base_psnr": 20.0, "psnr_gain": 0.5, "psnr_gain_ci95": 0.1, "num_images": 4}
METRICS |= {"psnr_worst": 1, "psnr_median": 2, "psnr_best": 3, "codebook_usage": 0.5, "dead_codes": 3}
METRICS |= {"codebook_positions": 90, "steps": 4, "images_per_second": 3.5}


@pytest.fixture(scope="module")
def model():
    return adapt(vqvae())


def carded(model, folder, run, metrics):
    """The card, or the sentence that refuses it."""
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    try:
        return str(model_card(model, read_metrics(folder), RunRecord.load(folder)))
    except UserError as refused:
        error = str(refused)
    assert "\n" not in error
    assert str(folder) in error
    return f"error: {error}"


@pytest.mark.parametrize("name", [field.name for field in fields(RunRecord)])
def test_any_value_in_run_json(model, name, tmp_path):
    answers = [carded(model, tmp_path, {**RUN, name: value}, METRICS) for value in VALUES]
    refused = [value for value, answer in zip(VALUES, answers, strict=True) if answer.startswith("error:")]
    assert [1] in refused
    assert True in refused
    carded(model, tmp_path, {key: value for key, value in RUN.items() if key != name}, METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_any_value_in_metrics_json(model, name, tmp_path):
    for value in VALUES:
        answer = carded(model, tmp_path, RUN, {**METRICS, name: value})
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and value < 1e308
        if not (number or value is None):
            assert f"{name} is " in answer
    without = carded(model, tmp_path, RUN, {key: value for key, value in METRICS.items() if key != name})
    assert not without.startswith("error:")


def test_the_command_says_it_in_one_line(model, tmp_path, capsys):
    model.save(tmp_path)
    (tmp_path / "metrics.json").write_text('{"psnr": "good"}')
    assert main(["card", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "psnr is 'good'" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "README.md").exists()
    (tmp_path / "metrics.json").unlink()
    config = json.loads((tmp_path / "config.json").read_text())
    for auto_map in ("x", ["a"], {"AutoModel": [1]}, {"AutoModel": "../../x.y"}, {"AutoModel": "x" * 5000}):
        (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": auto_map, "_name_or_path": "x" * 5000}))
        assert main(["card", str(tmp_path)]) == 0
