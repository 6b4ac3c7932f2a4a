"""What a run on images did to videos stands in its metrics, its output and its card."""

import json

import pytest
import torch

from support.runs import options, smooth_photographs
from support.tiny_diffusers import tiny
from vae_plugin import finetune
from vae_plugin.hub.record import RunRecord
from vae_plugin.hub.results import Results
from vae_plugin.hub.videos import after_training_on_images, videos_lost
from vae_plugin.metrics import evaluate


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return smooth_photographs(tmp_path_factory.mktemp("photographs"), 30)


def test_a_run_on_images_measures_videos_before_and_after(photographs, tmp_path, capsys):
    source, out = tmp_path / "source", tmp_path / "out"
    model = tiny("AutoencoderKLWan")
    model.save_pretrained(source)
    settings = {"pretrained_model_name_or_path": str(source), "train_data_dir": str(photographs), "max_train_steps": 2}
    run = options(out, learning_rate=1e-2, num_validation_images=3, train_batch_size=2, validation_steps=1, **settings)
    metrics = finetune.train(run)
    assert metrics == json.loads((out / "metrics.json").read_text())
    base = json.loads((out / "logs" / "base.json").read_text())
    assert len(base["clip_psnr"]) == 3
    assert metrics["base_clip_psnr"] == pytest.approx(sum(base["clip_psnr"]) / 3)
    assert metrics["clip_psnr_gain"] == pytest.approx(metrics["clip_psnr"] - metrics["base_clip_psnr"])
    assert metrics["clip_psnr_gain_ci95"] > 0
    results, record = Results(metrics), RunRecord.load(out)
    sentence = after_training_on_images(results, record)
    assert sentence in capsys.readouterr().out.replace("\n", " ")
    card = (out / "README.md").read_text()
    assert "PSNR of the later frames of short clips" in card
    assert ("Note for videos" in card) == (videos_lost(results, record) is not None)
    curves = [json.loads(line) for line in (out / "logs" / "train.jsonl").read_text().splitlines()]
    assert not any("clip" in name for line in curves for name in line)  # clips are measured twice, not on the way
    reopened = evaluate(type(model).from_pretrained(out), [torch.zeros(1, 3, 16, 16)])
    assert "clip_psnr" in reopened


@pytest.mark.parametrize(
    ("gain", "half", "says"),
    [
        (-1.234, 0.5, "lost 1.23 dB of PSNR (95 % confidence interval 0.734 to 1.73)"),
        (-0.4, None, "lost 0.4 dB of PSNR."),
        (-0.4, 0.5, None),
        (-0.001, None, None),
        (0.7, 0.1, None),
        (None, None, None),
    ],
)
def test_only_a_loss_that_is_certain_gets_a_sentence(gain, half, says):
    results = Results({"clip_psnr": 21.5, "clip_psnr_gain": gain, "clip_psnr_gain_ci95": half})
    lost = videos_lost(results, RunRecord(base_model="wan"))
    assert (lost is None) == (says is None)
    if says is not None:
        assert says in lost
        assert "worse than by wan" in lost
    said = after_training_on_images(results, RunRecord())
    assert said.startswith("In short clips the frames after the first have a PSNR of 21.5 dB") or says is not None
    assert after_training_on_images(Results({"psnr": 30.0}), RunRecord()) is None
