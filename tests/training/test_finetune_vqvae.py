"""The training script with discrete latents."""

import json
import math
import shutil
import sys

import pytest
import torch

from support.runs import LIKE_SGD, SCRIPT, assert_alike, assert_same, curves, finish, flags, options, start, weights
from vae_plugin import AutoencoderVQVAE, finetune
from vae_plugin.datasets import Circles
from vae_plugin.errors import UserError
from vae_plugin.models.quantizers.settings import QUANTIZERS

DISCRETE = {"model_type": "vqvae", "codebook_size": 64}


def codebook(output_dir):
    return {name: value for name, value in weights(output_dir).items() if name.startswith("quantizer.")}


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_every_quantizer_trains_and_is_measured(tmp_path, quantizer):
    size = {"fsq": {"fsq_levels": (4, 4, 3)}, "rvq": {"codebook_size": 64, "num_quantizers": 2}}
    changes = size.get(quantizer, {"codebook_size": 64})
    metrics = finetune.train(options(tmp_path, model_type="vqvae", quantizer=quantizer, **changes))
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    model = AutoencoderVQVAE.from_pretrained(tmp_path).eval()
    assert model.config.quantizer_type == quantizer
    images = Circles(12, 16, 1, seed=1)
    with torch.no_grad():
        indices = model.encode(images.render(images.factors)).indices
    counts = torch.bincount(indices.flatten(), minlength=model.codebook_size)
    p = counts[counts > 0] / counts.sum()
    stages = 2 if quantizer == "rvq" else 1
    assert metrics["codebook_positions"] == 12 * 8 * 8 * stages
    assert metrics["dead_codes"] == (counts == 0).sum()
    assert metrics["codebook_usage"] == pytest.approx((counts > 0).float().mean().item())
    assert metrics["codebook_perplexity"] == pytest.approx(2 ** -(p * p.log2()).sum().item(), rel=1e-5)
    assert metrics["kl_nats"] == pytest.approx(stages * 8 * 8 * math.log(model.codebook_size), rel=1e-6)
    for name in ("reconstructions", "prior", "indices", "code_changes"):
        assert (tmp_path / "samples" / f"{name}.png").is_file()
    assert "AutoencoderVQVAE" in (tmp_path / "README.md").read_text()


def test_the_latents_that_pipelines_see_are_standard(tmp_path):
    finetune.train(options(tmp_path, **DISCRETE))
    model = AutoencoderVQVAE.from_pretrained(tmp_path).eval()
    images = Circles(70, 16, 1, seed=0)
    with torch.no_grad():
        z = model.encode(images.render(images.factors)).latents.transpose(0, 1).flatten(1)
    assert (model.config.scaling_factor, model.config.shift_factor) == (1, 0)
    torch.testing.assert_close(z.mean(1), torch.zeros(4), rtol=0, atol=1e-4)
    assert z.square().mean().item() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"dead_code_threshold": 0.5},
        # More codes than half a batch: k-means goes on for two steps.
        pytest.param({"codebook_size": 400, "use_ema": True}, marks=pytest.mark.slow),
        pytest.param({"quantizer": "rvq", "mixed_precision": "bf16"}, marks=pytest.mark.slow),
        pytest.param(
            {"quantizer": "vq", "entropy_weight": 0.1, "quantizer_gradient": "rotation"}, marks=pytest.mark.slow
        ),
    ],
    ids=["revival", "k-means in portions", "residual", "by gradient"],
)
def test_a_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(tmp_path, changes):
    changes = {**DISCRETE, "checkpointing_steps": 1, "checkpoints_total_limit": 20, **changes}
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    finetune.train(options(whole, **changes))
    for first in (1, 7):
        shutil.rmtree(resumed, ignore_errors=True)
        name = f"step-{first:06d}"
        shutil.copytree(whole / "checkpoints" / name, resumed / "checkpoints" / name)
        finetune.train(options(resumed, resume_from_checkpoint="latest", **changes))
        assert_same(weights(whole), weights(resumed))
        assert curves(resumed) == curves(whole)[first:]


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", ["ema", "vq"])
def test_two_processes_compute_what_one_with_twice_the_batch_does(tmp_path, quantizer):
    changes = {**DISCRETE, **LIKE_SGD, "quantizer": quantizer, "dead_code_threshold": 0.3}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", SCRIPT]
    two = start(launch, *flags(tmp_path / "two", **{**changes, "train_batch_size": 4}))
    finetune.train(options(tmp_path / "one", **changes))
    finish(two)
    assert_alike(tmp_path / "one", tmp_path / "two")


def test_the_codebook_goes_on_from_where_a_finished_model_left_it(tmp_path):
    finetune.train(options(tmp_path / "first", **DISCRETE))
    changes = {"pretrained_model_name_or_path": str(tmp_path / "first"), "max_train_steps": 1, "learning_rate": 0.0}
    finetune.train(options(tmp_path / "second", **changes))
    before, after = codebook(tmp_path / "first"), codebook(tmp_path / "second")
    assert after["quantizer.num_updates"] == before["quantizer.num_updates"] + 1
    torch.testing.assert_close(after["quantizer.counts"].sum(), before["quantizer.counts"].sum(), rtol=0.05, atol=0)


MISTAKES = {
    "a codebook of a VAE": (
        {"codebook_size": 64},
        "--codebook_size applies only to --model_type vqvae, not to vae",
    ),
    "the other average": ({"ema_decay": 0.9}, "--ema_decay applies only to --model_type vqvae"),
    "a KL of a VQ-VAE": (
        {**DISCRETE, "beta": 0.5},
        "--beta applies only to --model_type vae, not to vqvae",
    ),
    "nothing to recompute": ({"network": "mlp", "gradient_checkpointing": True}, "nothing to recompute in an mlp"),
    "an mlp": (
        {**DISCRETE, "network": "mlp"},
        "--network applies only to --model_type vae, not to vqvae",
    ),
    "no power of two": ({**DISCRETE, "codebook_size": 60, "quantizer": "lfq"}, "power of two"),
    "unknown levels": ({**DISCRETE, "quantizer": "fsq"}, "give the levels themselves"),
    "levels and a size": (
        {**DISCRETE, "quantizer": "fsq", "fsq_levels": (4, 4)},
        "--codebook_size has no effect with --fsq_levels",
    ),
    "no codes": ({**DISCRETE, "codebook_size": 0}, "--codebook_size is 0: it must be at least 1"),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_what_cannot_work_is_one_sentence(tmp_path, mistake):
    changes, sentence = MISTAKES[mistake]
    with pytest.raises(UserError) as error:
        finetune.train(options(tmp_path, **changes))
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
