"""The training script: what it leaves, what it computes, and that nothing can make it compute something else."""

import json
import math
import os
import shutil
import signal
import socket
import sys
import time

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file

from support import HANGS
from support.runs import (
    LIKE_SGD,
    SCRIPT,
    STARTED_AS,
    assert_alike,
    assert_same,
    curves,
    finish,
    flags,
    options,
    start,
    weights,
)
from vae_plugin import AutoencoderVAE, finetune
from vae_plugin.commands import evaluate
from vae_plugin.datasets import Circles
from vae_plugin.errors import TrainingStopped, UserError
from vae_plugin.options import options_of
from vae_plugin.training.settings import FinetuneOptions


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run of the tiny model, to look at and to compare with."""
    torch.set_num_threads(1)
    output_dir = tmp_path_factory.mktemp("run")
    finetune.train(options(output_dir, report_to="tensorboard", validation_steps=6))
    return output_dir


def test_the_folder_is_the_product(finished):
    names = {p.relative_to(finished).as_posix() for p in finished.rglob("*") if p.is_file()}
    assert {
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "README.md",
        "metrics.json",
        "training_options.yaml",
        "samples/reconstructions.png",
        "samples/prior.png",
        "samples/traversal.png",
        "samples/extremes.png",
        "run.json",
        "samples/step-000006-reconstructions.png",
        "logs/train.jsonl",
    } <= names
    assert not [name for name in names if "partial" in name]
    assert any("tfevents" in name for name in names if name.startswith("logs/"))
    assert {p.name for p in (finished / "checkpoints").iterdir()} == {"step-000005", "step-000010", "step-000012"}
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics.keys() >= {
        "psnr",
        "ssim",
        "elbo_nats",
        "bits_per_dim_bound",
        "kl_nats",
        "steps",
        "images_per_second",
    }
    assert all(isinstance(v, (int, float)) and math.isfinite(v) for v in metrics.values())
    assert metrics["steps"] == 12
    # A density over [-1, 1], whose 256 levels lie 1 / 127.5 apart.
    bits = -metrics["elbo_nats"] / (math.log(2) * 16 * 16) + math.log2(127.5)
    assert metrics["bits_per_dim_bound"] == pytest.approx(bits)
    assert "bits_per_dim" not in metrics  # of version 0.1, which left that out
    for picture in (finished / "samples").glob("*.png"):
        assert min(Image.open(picture).size) > 100 or picture.name.startswith("example")
    card = (finished / "README.md").read_text()
    assert f"{metrics['psnr']:.4g} ± {metrics['psnr_std']:.4g} dB" in card
    assert metrics["psnr_worst"] <= metrics["psnr_median"] <= metrics["psnr_best"]
    assert "](samples/reconstructions.png)" in card


def test_the_result_is_the_trained_model(finished):
    model = AutoencoderVAE.from_pretrained(finished).eval()
    assert all(p.dtype == torch.float32 for p in model.parameters())
    x = torch.stack([Circles(12, 16, 1, seed=1)[i]["pixel_values"] for i in range(12)])
    from vae_plugin.metrics import psnr

    metrics = json.loads((finished / "metrics.json").read_text())
    assert psnr(model(x).sample, x).mean().item() == pytest.approx(metrics["psnr"], abs=1e-3)


def test_the_latents_of_the_training_data_are_standard(finished):
    model = AutoencoderVAE.from_pretrained(finished).eval()
    x = torch.stack([Circles(70, 16, 1, seed=0)[i]["pixel_values"] for i in range(70)])
    z = model.encode(x).latent_dist.sample(torch.Generator().manual_seed(0)).transpose(0, 1).flatten(1)
    z = (z - model.config.shift_factor) * model.config.scaling_factor
    torch.testing.assert_close(z.mean(1), torch.zeros(4), rtol=0, atol=0.05)
    torch.testing.assert_close(z.std(1), torch.ones(4), rtol=0.05, atol=0)
    assert model.config.latents_mean == [0.0] * 4


def test_training_lowers_the_loss(finished):
    losses = [line["loss"] for line in curves(finished)]
    assert sum(losses[-3:]) < sum(losses[:3])


def test_the_saved_options_repeat_the_run(finished, tmp_path):
    saved = yaml.safe_load((finished / "training_options.yaml").read_text())
    config = tmp_path / "options.yaml"
    config.write_text(yaml.safe_dump({**saved, "report_to": None, "validation_steps": None}))
    finetune.main(["--config", str(config), "--output_dir", str(tmp_path / "again")], "finetune.py")
    assert_same(weights(finished), weights(tmp_path / "again"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_ema": True, "gradient_accumulation_steps": 2, "sigma": "learned", "kl_warmup_steps": 7},
        pytest.param(
            {"mixed_precision": "bf16", "likelihood": "logistic_mixture", "num_mixtures": 2}, marks=pytest.mark.slow
        ),
    ],
)
def test_a_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(tmp_path, changes):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    finetune.train(options(whole, **changes))
    for checkpoint in ("step-000005", "step-000010"):
        shutil.rmtree(resumed, ignore_errors=True)
        shutil.copytree(whole / "checkpoints" / checkpoint, resumed / "checkpoints" / checkpoint)
        finetune.train(options(resumed, resume_from_checkpoint="latest", **changes))
        assert_same(weights(whole), weights(resumed))
        first = int(checkpoint[-6:])
        assert curves(resumed) == curves(whole)[first:]


@pytest.mark.slow
def test_images_with_random_crops_resume_bit_for_bit_with_another_number_of_workers(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(40):
        pixels = torch.randint(0, 255, (30, 40, 3), generator=torch.Generator().manual_seed(i), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(photos / f"{i:02d}.png")
    changes = {"train_data_dir": str(photos), "random_flip": True, "max_train_steps": 7}
    finetune.train(options(tmp_path / "whole", **changes))
    shutil.copytree(tmp_path / "whole/checkpoints/step-000005", tmp_path / "resumed/checkpoints/step-000005")
    finetune.train(options(tmp_path / "resumed", resume_from_checkpoint="latest", dataloader_num_workers=2, **changes))
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "resumed"))


def test_a_dozen_images_are_enough(tmp_path):
    """Of which one is held out: too few for a variance, which is then not in the metrics."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(12):
        Image.new("RGB", (20, 20), (20 * i, 0, 0)).save(photos / f"{i:02d}.png")
    metrics = finetune.train(options(tmp_path / "out", train_data_dir=str(photos), max_train_steps=1))
    assert metrics["num_images"] == 1
    assert "active_units" not in metrics


def test_rates_given_on_resume_are_those_of_the_steps_to_come(tmp_path):
    finetune.train(options(tmp_path / "whole", lr_scheduler="constant"))
    shutil.copytree(tmp_path / "whole/checkpoints/step-000010", tmp_path / "slow/checkpoints/step-000010")
    changes = {"learning_rate": 0.0, "adam_weight_decay": 0.5, "lr_scheduler": "constant"}
    finetune.train(options(tmp_path / "slow", resume_from_checkpoint="latest", **changes))
    assert [line["learning_rate"] for line in curves(tmp_path / "slow")] == [0.0, 0.0]
    before = load_file(tmp_path / "whole/checkpoints/step-000010/model.safetensors")
    after = load_file(tmp_path / "slow/checkpoints/step-000012/model.safetensors")
    assert_same(
        {name: value for name, value in before.items() if "likelihood" not in name},
        {name: value for name, value in after.items() if "likelihood" not in name},
    )


@pytest.mark.parametrize("changes", [{"seed": 5}, {"resolution": 24}, {"circles_length": 60}, {"sigma": "0.5"}])
def test_what_decides_which_images_come_next_cannot_change_on_resume(finished, changes, tmp_path):
    shutil.copytree(finished / "checkpoints" / "step-000010", tmp_path / "checkpoints" / "step-000010")
    with pytest.raises(UserError, match=f"cannot be continued so: --{next(iter(changes))} was"):
        finetune.train(options(tmp_path, resume_from_checkpoint="latest", **changes))


def test_fewer_steps_than_were_made_are_refused(finished, tmp_path):
    shutil.copytree(finished / "checkpoints" / "step-000010", tmp_path / "checkpoints" / "step-000010")
    with pytest.raises(UserError, match="the checkpoint is at step 10, after the 9 steps asked for"):
        finetune.train(options(tmp_path, resume_from_checkpoint="latest", max_train_steps=9))


@pytest.mark.parametrize("changes", [{"likelihood": "bernoulli"}, {"latent_channels": 9}, {"norm_num_groups": 2}])
def test_options_of_a_new_model_are_refused_where_there_is_one(finished, tmp_path, changes):
    changes = {"pretrained_model_name_or_path": str(finished), "max_train_steps": 1, **changes}
    with pytest.raises(UserError, match=f"--{list(changes)[-1]} .* conflicts with .* It applies only to new models"):
        finetune.train(options(tmp_path, **changes))


def test_images_that_cannot_be_read_are_named_and_not_measured(tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(40):
        Image.new("RGB", (20, 20), (6 * i, 0, 0)).save(photos / f"{i:02d}.png")
        if i % 3 == 0:
            (photos / f"{i:02d}.png").write_bytes(b"no image")
    changes = {"train_data_dir": str(photos), "max_train_steps": 1}
    with pytest.raises(UserError, match=r"40 found, 26 usable, 14 unreadable, more than --max_unreadable 0\.1 allows"):
        finetune.train(options(tmp_path / "out", **changes))
    metrics = finetune.train(options(tmp_path / "out", max_unreadable=0.5, **changes))
    assert metrics["num_images"] < 4
    model = ["--pretrained_model_name_or_path", str(tmp_path / "out"), "--data_dir", str(photos)]
    assert evaluate.run([*model, "--resolution", "16"], "evaluate")["num_images"] == metrics["num_images"]
    left_out = 4 - metrics["num_images"]
    assert f"{left_out} file(s) could not be read as images and were left out: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_signal_to_the_whole_group_does_not_end_the_loading_processes_first(tmp_path):
    """As schedulers send it: to the run and to the processes that load its images at once."""
    long = {"max_train_steps": 5000, "checkpointing_steps": 5000, "dataloader_num_workers": 2}
    process = start(STARTED_AS["python"], *flags(tmp_path, **long), start_new_session=True)
    log = tmp_path / "logs" / "train.jsonl"
    wait_for(lambda: log.is_file() and log.read_text().count("\n") >= 3, process)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=HANGS)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == [f"step-{len(curves(tmp_path)):06d}"]


@pytest.mark.slow
def test_two_machines_compute_what_one_process_with_twice_the_batch_does(tmp_path):
    """Two node ranks over loopback, on CPUs that nobody asked for: accelerate starts one process on each."""
    changes = {"free_bits": 0.2, "use_ema": True, **LIKE_SGD}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "2", "--num_processes", "2"]
    launch += ["--main_process_ip", "127.0.0.1", "--main_process_port", free_port(), "--machine_rank"]
    words = flags(tmp_path / "two", **{**changes, "train_batch_size": 4})
    without_gpu = {"CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(tmp_path)}
    machines = [start([*launch, rank, SCRIPT], *words, **without_gpu) for rank in ("0", "1")]
    finetune.train(options(tmp_path / "one", **changes))
    assert all("2 x cpu" in finish(machine)[0] for machine in machines)
    assert_alike(tmp_path / "one", tmp_path / "two")


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


def test_accumulated_batches_are_one_batch(tmp_path):
    changes = {"sigma": "1.0", **LIKE_SGD}
    finetune.train(options(tmp_path / "one", **changes))
    finetune.train(options(tmp_path / "parts", train_batch_size=4, gradient_accumulation_steps=2, **changes))
    assert_alike(tmp_path / "one", tmp_path / "parts")


@pytest.mark.slow
def test_however_it_is_started_it_is_the_same_run(tmp_path, finished):
    processes = {
        name: start(command, *flags(tmp_path / name.replace(" ", "-")), CUDA_VISIBLE_DEVICES="")
        for name, command in STARTED_AS.items()
    }
    for name, process in processes.items():
        output, _ = finish(process)
        assert "The result is in" in output
        assert_same(weights(finished), weights(tmp_path / name.replace(" ", "-")))


@pytest.mark.slow
@pytest.mark.parametrize("started_as", ["python", "accelerate launch"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_and_the_run_can_be_continued(tmp_path, started_as, number):
    out = tmp_path / "out"
    long = {"max_train_steps": 5000, "checkpointing_steps": 5000}
    process = start(STARTED_AS[started_as], *flags(out, **long))
    log = out / "logs" / "train.jsonl"
    wait_for(lambda: log.is_file() and log.read_text().count("\n") >= 3, process)
    process.send_signal(number)
    output, errors = process.communicate(timeout=HANGS)
    if started_as == "python":
        assert process.returncode == 128 + number, errors
        assert "continue with --resume_from_checkpoint latest" in output
        assert "Traceback" not in errors
    # The launcher may be gone before its child has saved.
    checkpoints = out / "checkpoints"
    wait_for(lambda: any(p.name.count("partial") == 0 for p in checkpoints.glob("step-*")))
    step = int(next(p for p in checkpoints.glob("step-*")).name[-6:])
    wait_for(lambda: step == len(curves(out)))
    assert not (out / "config.json").exists()
    finetune.train(
        options(out, **{**long, "max_train_steps": step + 2}, lr_scheduler="constant", resume_from_checkpoint="latest")
    )
    assert (out / "config.json").exists()


def wait_for(condition, process=None, seconds=HANGS):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        if process is not None and process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        time.sleep(0.05)


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(tmp_path, monkeypatch):
    from vae_plugin.training.losses import ELBOLoss

    forward = ELBOLoss.forward

    def poisoned(self, x, noise, step, *more):
        terms = forward(self, x, noise, step, *more)
        return {**terms, "loss": terms["loss"] * (math.nan if step == 7 else 1)}

    monkeypatch.setattr(ELBOLoss, "forward", poisoned)
    with pytest.raises(TrainingStopped, match=r"the loss is nan at step 7: .* last good checkpoint is .*step-000005"):
        finetune.train(options(tmp_path / "out"))
    monkeypatch.undo()
    assert len(curves(tmp_path / "out")) == 7
    finetune.train(options(tmp_path / "out", resume_from_checkpoint="latest"))
    finetune.train(options(tmp_path / "whole"))
    assert_same(weights(tmp_path / "out"), weights(tmp_path / "whole"))


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(tmp_path, monkeypatch):
    from vae_plugin.training.losses import ELBOLoss

    forward = ELBOLoss.forward

    def poisoned(self, x, noise, step, *more):
        terms = forward(self, x, noise, step, *more)
        # A finite loss with an infinite gradient: d sqrt(u)/du at u = 0.
        extra = (terms["loss"] - terms["loss"].detach()).abs().sqrt()
        return {**terms, "loss": terms["loss"] + extra}

    monkeypatch.setattr(ELBOLoss, "forward", poisoned)
    with pytest.raises(TrainingStopped, match="the norm of the gradient is nan at step 0"):
        finetune.train(options(tmp_path / "out"))


@pytest.mark.slow
def test_bf16_keeps_float32_weights_and_trains_alike(tmp_path):
    finetune.train(options(tmp_path / "fp32", sigma="1.0"))
    AcceleratorState._reset_state()
    finetune.train(options(tmp_path / "bf16", sigma="1.0", mixed_precision="bf16"))
    for name, value in weights(tmp_path / "bf16").items():
        assert value.dtype in (torch.float32, torch.int64), name
    precise, rough = (curves(tmp_path / d)[-1]["loss"] for d in ("fp32", "bf16"))
    assert rough != precise
    assert rough == pytest.approx(precise, rel=0.02)


def test_training_goes_on_from_a_finished_model(finished, tmp_path):
    changes = {"pretrained_model_name_or_path": str(finished), "max_train_steps": 2, "learning_rate": 0.0}
    metrics = finetune.train(options(tmp_path / "out", **changes))
    before = json.loads((finished / "metrics.json").read_text())
    assert metrics["psnr"] == pytest.approx(before["psnr"], abs=0.05)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train_batch_size": 100}, "70 training images do not fill one step of 100"),
        ({"in_channels": 4}, "circles have 1 or 3 channels"),
        ({"norm_num_groups": 5}, "multiples of norm_num_groups"),
        ({"sigma": "large"}, "--sigma is 'large'"),
        ({"train_data_dir": "nowhere-at-all"}, "nowhere-at-all"),
        (
            {"pretrained_model_name_or_path": "./nowhere-at-all"},
            "./nowhere-at-all does not exist: give the folder of a model",
        ),
        ({"resume_from_checkpoint": "step-000099"}, "step-000099: no checkpoint there"),
        ({"capacity": 1.0, "free_bits": 1.0}, "give one of them"),
    ],
)
def test_what_cannot_work_is_one_sentence(tmp_path, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        finetune.train(options(tmp_path / "out", **changes))


def test_an_output_folder_with_checkpoints_is_not_trained_over(finished):
    with pytest.raises(UserError, match=r"checkpoints up to step-000012: continue with --resume_from_checkpoint"):
        finetune.train(options(finished))


def test_a_run_cannot_be_continued_as_another_model(finished):
    before = weights(finished)
    with pytest.raises(UserError, match="--latent_channels was 4 and is now 5: a resumed run must keep it"):
        finetune.train(options(finished, latent_channels=5, resume_from_checkpoint="latest"))
    assert_same(before, weights(finished))


def test_a_model_of_another_class_is_not_trained_silently(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(UserError, match="holds UNet2DModel, which is not supported"):
        finetune.train(options(tmp_path / "out", pretrained_model_name_or_path=str(tmp_path / "unet")))


@pytest.mark.slow
def test_a_mistake_on_the_command_line_is_a_sentence_and_status_2():
    _, errors = finish(start(STARTED_AS["vae-plugin"], "--learning_rte", "1"), status=2)
    assert errors.strip().splitlines()[-1] == (
        "error: unknown option '--learning_rte': did you mean '--learning_rate'?"
    )
    assert "Traceback" not in errors


def test_every_option_has_a_help_text_and_a_group():
    for name, option in options_of(FinetuneOptions).items():
        assert option.declaration.help.endswith("."), name
        assert option.declaration.help[0].isupper() or option.declaration.help.startswith(("'", "config.json")), name
        assert option.section
