"""Which weights are the best by a metric, and that they become the result where that is asked for."""

import json
import shutil

import pytest
import torch
from torch import nn

from support.runs import options
from support.tiny_diffusers import tiny
from vae_plugin import finetune
from vae_plugin.autoencoders import adapt
from vae_plugin.errors import TrainingStopped, UserError
from vae_plugin.training.best import HIGHER_IS_BETTER, Best
from vae_plugin.training.losses import DistillationLoss, ImageLoss, ReconstructionLoss
from vae_plugin.training.state import TrainingState

STATE = {"step": 3, "epoch": 0, "images_in_epoch": 0, "images": 0, "stream": {}}
IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("metric", HIGHER_IS_BETTER)
def test_the_best_is_the_highest_or_the_lowest(metric):
    values = [-2.0, 1.0, 3.0, 3.0, -5.0, 0.5]
    best = Best(metric)
    improved = [best.improves(value, step) for step, value in enumerate(values)]
    expected = max(values) if HIGHER_IS_BETTER[metric] else min(values)
    assert (best.value, best.step) == (expected, values.index(expected))  # of equal ones the first
    assert improved.count(True) == (3 if HIGHER_IS_BETTER[metric] else 2)


def test_the_perceptual_distance_decides_where_there_is_one():
    for measured, metric in (
        (("psnr", "ssim"), "psnr"),
        (("psnr", "own", "perceptual"), "perceptual"),
        (("psnr", "second", "first"), "second"),  # of several the first that is named
    ):
        best = Best()
        best.settle(None, measured)
        assert best.metric == metric
    with pytest.raises(
        UserError, match="--best_metric 'perceptual' is not measured in this run: give one of psnr, ssim"
    ):
        Best().settle("perceptual", ("psnr", "ssim"))


def test_a_continued_run_goes_on_by_its_metric_unless_another_is_given():
    measured = ("psnr", "ssim", "perceptual")
    best = Best("psnr", 20.0, 5)
    best.settle(None, measured)
    assert best == Best("psnr", 20.0, 5)
    best.settle("ssim", measured)
    assert best == Best("ssim")


@pytest.mark.parametrize("value", [None, 21.5])
def test_in_a_checkpoint_of_release_0_1_the_psnr_decides(value):
    state = TrainingState.read({**STATE, "best_psnr": value})
    assert state.best == Best("psnr", value)


@pytest.mark.parametrize(
    "best",
    [{"metric": "loss"}, {"metric": ["psnr"]}, {"value": "1"}, {"value": float("nan")}, {"step": -1}, {"x": 1}, 3],
)
def test_a_damaged_best_is_refused(best):
    with pytest.raises(ValueError, match="its best is"):
        TrainingState.read({**STATE, "best": best})


class Distance(nn.Module):
    def forward(self, x, y):
        return (x - y).abs().flatten(1).mean(1)


@pytest.mark.parametrize("perceptual", [None, Distance()])
def test_a_loss_names_what_it_compares(perceptual):
    image_loss = ImageLoss("l1", perceptual=perceptual)
    student, teacher = (adapt(tiny("AutoencoderTiny", seed=seed)) for seed in (0, 1))
    for loss in (ReconstructionLoss(student, image_loss), DistillationLoss(student, teacher, image_loss)):
        with torch.no_grad():
            assert set(loss.measures) == loss.compare(IMAGES, loss.reconstruct(IMAGES)).keys()
        assert ("perceptual" in loss.measures) == (perceptual is not None)


def test_low_rank_weights_beside_the_result_are_those_of_the_result(tmp_path):
    with pytest.raises(UserError, match="--load_best_model_at_end"):
        options(tmp_path, validation_steps=1, load_best_model_at_end=True, lora_rank=2, train_data_dir="x",
                pretrained_model_name_or_path="y")  # fmt: skip


RUN = {"validation_steps": 2, "max_train_steps": 5, "num_validation_images": 2, "circles_length": 16}


def test_the_best_weights_become_the_result(tmp_path):
    out = tmp_path / "out"
    # So fast that it gets worse.
    metrics = finetune.train(options(out, **RUN, load_best_model_at_end=True, best_metric="ssim", learning_rate=0.5))
    record = json.loads((out / "run.json").read_text())["best"]
    kept = json.loads((out / "best" / "metrics.json").read_text())
    assert (record["metric"], record["step"], record["is_result"]) == ("ssim", kept["steps"], True)
    assert record["value"] == pytest.approx(kept["ssim"])
    assert metrics["steps"] == kept["steps"] < 5
    # Standardising the latents and fitting sigma leave what is reconstructed as it was.
    assert metrics["psnr"] == pytest.approx(kept["psnr"], abs=0.01)
    shutil.rmtree(out / "best")
    again = {**RUN, "load_best_model_at_end": True, "best_metric": "ssim", "learning_rate": 0.5}
    with pytest.raises(TrainingStopped, match=r"the best weights cannot be read .*without --load_best_model_at_end"):
        finetune.train(options(out, **again, resume_from_checkpoint="latest"))


def test_without_an_evaluation_there_is_no_best_to_load(tmp_path):
    with pytest.raises(UserError, match="--validation_steps 9 makes no evaluation in 5 steps"):
        finetune.train(options(tmp_path, **{**RUN, "validation_steps": 9}, load_best_model_at_end=True))


def test_an_asymmetric_autoencoder_is_measured_with_a_mask():
    """The part around the middle is given to the decoder, as in inpainting."""
    adapter = adapt(tiny("AsymmetricAutoencoderKL"))
    mask = torch.zeros(2, 1, 16, 16)
    mask[..., 4:12, 4:12] = 1
    with torch.no_grad():
        z = adapter.model.encode(IMAGES).latent_dist.mode()
        expected = adapter.model.decode(z, image=IMAGES, mask=mask).sample
        assert torch.equal(adapter.reconstruct(IMAGES), expected)
        assert not torch.equal(adapter.reconstruct(IMAGES), adapter.decode(z))


@pytest.mark.parametrize("changes", [{}, {"num_importance_samples": 2}, {"model_type": "vqvae"}, {"tc_weight": 2.0}])
def test_every_metric_that_may_decide_has_a_direction(tmp_path, changes, monkeypatch):
    """Others are taken for perceptual distances, of which these runs have none."""
    measured = []
    monkeypatch.setattr(
        Best, "settle", lambda self, given, names: measured.extend(names) or Best.__init__(self, "psnr")
    )
    finetune.train(options(tmp_path, max_train_steps=1, **changes))
    assert "psnr" in measured
    assert set(measured) <= HIGHER_IS_BETTER.keys()
