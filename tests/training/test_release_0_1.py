"""What version 0.1 wrote resumes, opens and is carded: tests/fixtures/release-0.1, made by make.py there."""

import json
import runpy
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vae_plugin import cli
from vae_plugin.autoencoders.loading import load_autoencoder
from vae_plugin.options import options_of
from vae_plugin.training.settings import FinetuneOptions

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "release-0.1"
RUNS = sorted(folder.parent.name for folder in FIXTURES.glob("*/checkpoints"))
FEW = [pytest.param(run, marks=[pytest.mark.slow] * (run not in ("vae", "vqvae", "gan"))) for run in RUNS]

KEPT = """
    pretrained_model_name_or_path subfolder revision model_type model_config train lora_rank lora_alpha teacher
    teacher_subfolder network in_channels block_out_channels layers_per_block norm_num_groups
    mid_block_add_attention latent_channels hidden_sizes mlp_act_fn likelihood sigma num_mixtures quantizer
    codebook_size codebook_dim commitment_weight ema_decay codebook_distance quantizer_gradient kmeans_init
    dead_code_threshold entropy_weight num_quantizers fsq_levels image_column streaming
    shuffle_buffer resolution center_crop random_flip max_train_samples num_validation_images circles_length
    circles_hue reconstruction_loss learned_variance perceptual_loss disc_start disc_loss disc_adaptive_weight
    disc_channels disc_layers disc_regularization use_8bit_adam use_ema ema_max_decay seed
"""  # by a resumed run

LATER = {
    "crop",
    "dataset_config_name",
    "dataset_split",
    "decoder_block_out_channels",
    "discriminator",
    "fourth_channel",
    "max_image_pixels",
    "min_image_size",
    "optimizer",
    "optimizer_args",
    "padding_mode",
    "pipeline_family",
    "split_by",
    "value_range",
    "variant",
}


@pytest.fixture
def fixtures(tmp_path, monkeypatch):
    """A copy, in which the relative paths of the options hold."""
    copied = shutil.copytree(FIXTURES, tmp_path / "fixtures")
    monkeypatch.chdir(copied)
    return copied


def test_the_fixtures_are_those_of_the_issue():
    assert {"vae", "vqvae", "gan", "ema", "lora"} <= set(RUNS)


@pytest.mark.parametrize("run", RUNS)
def test_a_checkpoint_of_release_0_1_ends_with_the_weights_that_release_0_1_ended_with(fixtures, run):
    result = fixtures / run / "diffusion_pytorch_model.safetensors"
    expected, expected_metrics = load_file(result), json.loads((fixtures / run / "metrics.json").read_text())
    expected_curves = (fixtures / run / "logs" / "train.jsonl").read_text().splitlines()
    result.unlink()
    config = ["--config", f"{run}/training_options.yaml", "--resume_from_checkpoint", "latest"]

    assert cli.main(["finetune", *config]) == 0

    weights = load_file(result)
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-6, msg=name)
    curves = (fixtures / run / "logs" / "train.jsonl").read_text().splitlines()
    assert len(curves) == len(expected_curves) == 4
    for line, before in zip(curves, expected_curves, strict=True):
        expected = json.loads(before)  # later versions may log more
        assert {name: json.loads(line)[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-6)
    metrics = json.loads((fixtures / run / "metrics.json").read_text())
    for name in {"psnr", "ssim", "elbo_nats", "psnr_gain"} & expected_metrics.keys():
        assert metrics[name] == pytest.approx(expected_metrics[name], rel=1e-4)


@pytest.mark.parametrize("run", RUNS)
def test_a_result_of_release_0_1_opens_and_is_carded(fixtures, run):
    model = load_autoencoder(run)
    assert sum(p.numel() for p in getattr(model, "model", model).parameters()) > 1000

    assert cli.main(["card", run]) == 0

    card = (fixtures / run / "README.md").read_text()
    assert f"{json.loads((fixtures / run / 'metrics.json').read_text())['psnr']:.4g}" in card


@pytest.mark.parametrize("run", FEW)
def test_options_of_release_0_1_start_a_new_run(fixtures, run):
    """Every field stands in that file, so that a value equal to its default counts as not given."""
    words = ["--config", f"{run}/training_options.yaml", "--output_dir", "again", "--max_train_steps", "2"]
    assert cli.main(["finetune", *words]) == 0
    first = (fixtures / "again" / "logs" / "train.jsonl").read_text().splitlines()[0]
    before = (fixtures / run / "logs" / "train.jsonl").read_text().splitlines()[0]
    assert json.loads(first)["loss"] == pytest.approx(json.loads(before)["loss"], rel=1e-4)


@pytest.mark.parametrize("run", FEW)
def test_a_checkpoint_of_release_0_1_resumes_with_the_flags_that_it_was_made_with(fixtures, run):
    """Its checkpoints also hold what the options came to: the data set, the resolution and the learning rate."""
    make = runpy.run_path(str(fixtures / "make.py"))
    words = f"{make['COMMON']} {make['RUNS'][run]} --output_dir {run} --resume_from_checkpoint latest".split()
    assert cli.main(["finetune", *words]) == 0
    assert len((fixtures / run / "logs" / "train.jsonl").read_text().splitlines()) == 4


def test_what_a_resumed_run_must_keep_is_as_in_release_0_1():
    """What decides what the weights mean, or which images come next; where they are is judged by what they are."""
    kept = {name for name, option in options_of(FinetuneOptions).items() if not option.declaration.on_resume}
    assert kept == set(KEPT.split()) | LATER
