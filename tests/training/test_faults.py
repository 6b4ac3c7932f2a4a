"""What happens to a run when the machine does not behave."""

import json
import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from support import HANGS
from support.runs import LIKE_SGD, SCRIPT, TINY, assert_alike, assert_same, curves, finish, flags, start, weights
from support.tiny_diffusers import tiny
from vae_plugin import finetune
from vae_plugin.errors import TrainingStopped
from vae_plugin.options import build
from vae_plugin.training.checkpoints import list_checkpoints
from vae_plugin.training.losses import DiscriminatorLoss
from vae_plugin.training.settings import FinetuneOptions

KILLS = 20
STEPS = 120  # more than so many attempts reach
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}  # as the runs that these are compared with
# Imports once; then every attempt is a fork of its own, so that twenty kills take seconds and not minutes. Each is
# killed up to three checkpoints and a part of the way to the next after its start, so that the speed of the machine
# makes no difference; every second one while a checkpoint is being written.
ATTEMPTS = """
import json, os, random, signal, sys, time
import torch
torch.set_num_threads(1)
from vae_plugin import finetune
from vae_plugin.options import build
from vae_plugin.training.settings import FinetuneOptions

settings, kills = json.loads(sys.argv[1]), int(sys.argv[2])
checkpoints = os.path.join(settings["output_dir"], "checkpoints")
chance, killed = random.Random(0), {"anywhere": 0, "writing": 0}
pace = 0.0  # seconds from one checkpoint to the next, as the first attempt has them

def names():
    return os.listdir(checkpoints) if os.path.isdir(checkpoints) else []

def reached():
    return max((int(name[5:]) for name in names() if name[5:].isdigit()), default=0)

def ends_by_itself(child, kind):
    global pace
    goal, seen, due = reached() + settings["checkpointing_steps"] * chance.randrange(4), [], None
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        now = time.monotonic()
        if not pace:
            seen += [now] if reached() > settings["checkpointing_steps"] * len(seen) else []
            pace = seen[1] - seen[0] if len(seen) == 2 else 0.0
        elif due is None and reached() >= goal:
            due = now + chance.uniform(0, pace)
        elif kind and due and now >= due and (kind == "anywhere" or any(name.endswith(".partial") for name in names())):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            killed[kind] += 1
            return False
        time.sleep(0.0002)
    return True

while True:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            finetune.train(build(FinetuneOptions, settings, resume_from_checkpoint="latest"))
            status = 0
        finally:
            os._exit(status)
    total = sum(killed.values())
    if ends_by_itself(child, None if total >= kills else ("writing", "anywhere")[total % 2]):
        break
print(json.dumps(killed))
"""


def settings_of(output_dir, tmp_path, **changes):
    if not (tmp_path / "source").exists():
        tiny("AutoencoderKL").save_pretrained(tmp_path / "source")
    new_model = ("block_out_channels", "norm_num_groups", "mid_block_add_attention")
    return {
        **{name: value for name, value in TINY.items() if name not in new_model},
        "pretrained_model_name_or_path": str(tmp_path / "source"),
        "in_channels": 3,
        "circles_hue": True,
        "output_dir": str(output_dir),
        "disc_start": 5,
        "disc_channels": 4,
        "disc_layers": 1,
        "disc_regularization": "lecam",
        **changes,
    }


@pytest.mark.slow
def test_killed_twenty_times_it_ends_bit_for_bit_the_same(tmp_path):
    settings = settings_of(tmp_path / "killed", tmp_path, max_train_steps=STEPS, checkpointing_steps=2)
    command = [sys.executable, "-c", ATTEMPTS, json.dumps(settings), str(KILLS)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, env=ONE_THREAD)
    assert result.returncode == 0, result.stderr[-2000:]
    killed = json.loads(result.stdout.splitlines()[-1])
    assert sum(killed.values()) == KILLS
    assert killed["writing"] >= KILLS // 3
    finetune.train(build(FinetuneOptions, {**settings, "output_dir": str(tmp_path / "whole")}))
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    for file in ("model_1.safetensors", "model.safetensors"):
        one, other = (load_file(tmp_path / n / "checkpoints" / f"step-{STEPS:06d}" / file) for n in ("whole", "killed"))
        assert_same(one, other)
    assert curves(tmp_path / "whole") == curves(tmp_path / "killed")


@pytest.mark.slow
def test_two_processes_with_a_discriminator_compute_what_one_does(tmp_path):
    """The adaptive weight, LeCam's averages and both networks are those of the whole batch, on both processes."""
    changes = {**LIKE_SGD, "learning_rate": 0.1, "disc_start": 2, "disc_scale": 0.5, "learned_variance": True}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", SCRIPT]
    two = settings_of(tmp_path / "two", tmp_path, **changes, train_batch_size=4)
    process = start(launch, *flags(two.pop("output_dir"), **two))
    finetune.train(build(FinetuneOptions, settings_of(tmp_path / "one", tmp_path, **changes)))
    finish(process)
    assert_alike(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_the_last_checkpoint_stays(tmp_path):
    settings = settings_of(tmp_path / "out", tmp_path)
    limited = (
        "import resource, runpy, sys; from vae_plugin.training.hooks import checkpoint as c; real = c.save_checkpoint\n"
        "import vae_plugin.finetune as f\n"
        "def full(*a):\n"
        "    if a[2].state.step > 5: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "    return real(*a)\n"
        "c.save_checkpoint = full\n"
        "from vae_plugin.errors import exit_status\n"
        "sys.exit(exit_status(lambda: f.main(None, 'finetune.py')))"
    )
    words = flags(**settings)
    result = subprocess.run(
        [sys.executable, "-c", limited, *words], capture_output=True, text=True, timeout=HANGS, env=ONE_THREAD
    )
    assert result.returncode == 1, result.stderr[-2000:]
    assert "stopped: the checkpoint cannot be written" in result.stderr
    assert "step-000005" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in list_checkpoints(tmp_path / "out")] == ["step-000005"]
    finetune.train(build(FinetuneOptions, settings, resume_from_checkpoint="latest"))
    finetune.train(build(FinetuneOptions, settings_of(tmp_path / "whole", tmp_path)))
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "out"))


def test_a_bad_batch_stops_the_discriminator_too(tmp_path, monkeypatch):
    real = DiscriminatorLoss.forward

    def broken(self, x, y, *more):
        terms = real(self, x, y, *more)
        return {**terms, "loss": terms["loss"] * float("nan")}

    monkeypatch.setattr(DiscriminatorLoss, "forward", broken)
    with pytest.raises(TrainingStopped, match=r"the loss is nan at step 5: .* last good checkpoint is .*step-000005"):
        finetune.train(build(FinetuneOptions, settings_of(tmp_path / "out", tmp_path)))
