"""A training run on the Hub: checkpoints beside it, the result at its end, and what goes wrong before and after."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
import torch
from huggingface_hub import constants

from support import HANGS
from support.runs import flags, start, weights
from vae_plugin import AutoencoderVAE, cli

CLI = [sys.executable, "-m", "vae_plugin.cli"]
REPO = "user/run"
ON_THE_HUB = {"push_to_hub": True, "hub_model_id": REPO}


def train(hub, tmp_path, *words, out="out", **changes):
    environment = hub.environment(tmp_path / "home")
    process = start([*CLI, "finetune"], *flags(tmp_path / out, **ON_THE_HUB, **changes), *words, **environment)
    output, errors = process.communicate(timeout=HANGS)
    return process.returncode, output, errors


def titles(hub):
    return [commit.title for commit in hub.repositories[REPO].history()][::-1]


def without_package(code, hub, tmp_path):
    """Run code in an interpreter that cannot import vae_plugin."""
    block = "import sys\nsys.modules['vae_plugin'] = None\n"
    environment = {**hub.environment(tmp_path / "other-home"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", block + code], env=environment, capture_output=True, text=True, timeout=HANGS
    )


@pytest.mark.slow
def test_checkpoints_and_the_result_are_pushed_and_load_without_the_package(hub, tmp_path):
    status, _output, errors = train(hub, tmp_path, export_remote_code=True, license="mit")
    assert status == 0, errors
    repository = hub.repositories[REPO]
    assert titles(hub)[-1] == "The result, after 12 steps"
    assert set(titles(hub)[1:-1]) <= {"Step 5", "Step 10"}  # one that was overtaken is left out
    for tag, oid in repository.tags.items():
        assert repository.commits[oid].title == f"Step {int(tag.removeprefix('step-'))}"
    files = repository.resolve().files
    assert (
        files["diffusion_pytorch_model.safetensors"].content
        == (tmp_path / "out" / "diffusion_pytorch_model.safetensors").read_bytes()
    )
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert f"{metrics['psnr']:.4g} ±" in files["README.md"].content.decode()
    everything = b"".join(file.content for commit in repository.commits.values() for file in commit.files.values())
    assert str(tmp_path).encode() not in everything
    assert b"hf_loopback" not in everything
    assert not (tmp_path / "out" / ".hub").exists()

    loaded = without_package(
        "import torch\nfrom diffusers import AutoModel\n"
        f"vae = AutoModel.from_pretrained({REPO!r}, trust_remote_code=True, use_safetensors=True)\n"
        "print(vae.encode(torch.zeros(1, 1, 16, 16)).latent_dist.mode().double().sum().item())\n"
        f"try:\n    AutoModel.from_pretrained({REPO!r})\nexcept ValueError as error:\n    print(error)\n",
        hub,
        tmp_path,
    )
    assert loaded.returncode == 0, loaded.stderr
    total, refusal = loaded.stdout.splitlines()[:2]
    assert "trust_remote_code" in refusal
    ours = AutoencoderVAE.from_pretrained(tmp_path / "out").encode(torch.zeros(1, 1, 16, 16)).latent_dist.mode()
    assert float(total) == pytest.approx(ours.double().sum().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("token", "words"), [(None, "no token"), ("hf_unknown", "does not accept"), ("hf_reader", "is read-only")]
)
def test_a_token_that_will_not_do_ends_the_run_before_it_begins(connected, monkeypatch, capsys, tmp_path, token, words):
    connected.commit(REPO, {})
    monkeypatch.setenv("HF_TOKEN", token or "")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert cli.main(["finetune", *flags(tmp_path / "out", **ON_THE_HUB)]) == 2
    errors = capsys.readouterr().err
    assert words in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out" / "logs").exists()


def test_a_token_on_the_command_line_is_refused_and_not_repeated(connected, capsys, tmp_path):
    arguments = flags(tmp_path / "out", **ON_THE_HUB)
    assert cli.main(["finetune", *arguments, "--hub_token", "hf_secret_word"]) == 2
    printed = capsys.readouterr()
    assert "HF_TOKEN" in printed.err
    assert "hf_secret_word" not in printed.out + printed.err
    assert not connected.requests


@pytest.mark.slow
def test_training_goes_on_where_checkpoints_cannot_be_pushed_and_the_result_can_be_sent_again(hub, tmp_path):
    """The Hub takes no commit, then none of the result: the folder is complete, the status says so, push sends it."""
    hub.commit(REPO, {})
    hub.fail("POST .*/commit/", 400, times=10**6)
    status, output, errors = train(hub, tmp_path)
    assert status == 1
    assert "Training continues" in output + errors
    assert "result in" in errors
    assert "is complete" in errors
    assert "Traceback" not in errors
    assert weights(tmp_path / "out")
    command = shlex.split(errors.strip().splitlines()[-1].split("Send it with: ")[1])
    hub.faults.heal()
    again = subprocess.run(
        [*CLI, *command[1:]], env=hub.environment(tmp_path / "home"), capture_output=True, text=True, timeout=HANGS
    )
    assert again.returncode == 0, again.stderr
    assert "diffusion_pytorch_model.safetensors" in hub.repositories[REPO].resolve().files


@pytest.mark.slow
def test_an_interrupted_run_is_resumed_and_pushed(hub, tmp_path):
    environment = hub.environment(tmp_path / "home")
    changes = {**ON_THE_HUB, "max_train_steps": 200, "checkpointing_steps": 5}
    process = start([*CLI, "finetune"], *flags(tmp_path / "out", **changes), **environment)
    deadline = time.monotonic() + HANGS
    while not list((tmp_path / "out" / "checkpoints").glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=HANGS)
    assert process.returncode == 128 + signal.SIGTERM
    reached = int(sorted((tmp_path / "out" / "checkpoints").glob("step-*"))[-1].name.removeprefix("step-"))
    status, _output, errors = train(
        hub, tmp_path, "--resume_from_checkpoint", "latest", max_train_steps=reached + 2, checkpointing_steps=5
    )
    assert status == 0, errors
    assert titles(hub)[-1] == f"The result, after {reached + 2:,} steps"
