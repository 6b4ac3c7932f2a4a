"""Tiny training runs, and how to compare them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from support import HANGS
from vae_plugin.options import build
from vae_plugin.training.settings import FinetuneOptions

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = {
    "circles_length": 70,
    "resolution": 16,
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "train_batch_size": 8,
    "max_train_steps": 12,
    "lr_warmup_steps": 2,
    "checkpointing_steps": 5,
    "num_validation_images": 12,
    "mid_block_add_attention": False,
}
# With a large epsilon Adam's steps are in proportion to the gradient. With a small one it turns the rounding of
# gradients near zero into full steps, and runs that differ in the order of a sum drift apart.
LIKE_SGD = {"adam_epsilon": 1.0, "learning_rate": 1.0}
SCRIPT = str(ROOT / "vae_plugin" / "finetune.py")
STARTED_AS = {
    "python": [sys.executable, SCRIPT],
    "accelerate launch": [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", SCRIPT],
    "vae-plugin": [sys.executable, "-m", "vae_plugin.cli", "finetune"],
}


def options(output_dir, **changes):
    return build(FinetuneOptions, values(output_dir, changes))


def values(output_dir, changes):
    """The values of a tiny run by name, without those of `TINY` that the changes make meaningless."""
    chosen = {**TINY, "output_dir": str(output_dir), **changes}
    for name in useless(chosen) - changes.keys():
        del chosen[name]
    return chosen


def useless(chosen):
    names = set()
    if any(chosen.get(name) for name in ("train_data_dir", "pretrained_model_name_or_path", "dataset_name")):
        names |= (
            {"circles_length"}
            if chosen.get("train_data_dir") or chosen.get("dataset_name", "circles") != "circles"
            else set()
        )
    if chosen.get("pretrained_model_name_or_path") or chosen.get("model_config"):
        names |= {"block_out_channels", "norm_num_groups", "mid_block_add_attention"}
    if chosen.get("network") == "mlp":
        names |= {"block_out_channels", "norm_num_groups", "mid_block_add_attention"}
    if chosen.get("model_type") == "tiny":
        names |= {"norm_num_groups", "mid_block_add_attention"}
    if chosen.get("lr_scheduler") == "constant":
        names |= {"lr_warmup_steps"}
    return names & TINY.keys()


def flags(output_dir, **changes):
    words = []
    for name, value in values(output_dir, changes).items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words += [f"--{name}", *map(str, value if isinstance(value, tuple) else [value])]
    return words


def start(command, *words, start_new_session=False, **environment):
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **environment}
    return subprocess.Popen(
        [*command, *words],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT.parent,
        start_new_session=start_new_session,
        # A shell starts what runs in the background with Ctrl-C ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process, status=0):
    output, errors = process.communicate(timeout=HANGS)
    assert process.returncode == status, output + errors
    return output, errors


def weights(output_dir):
    return load_file(Path(output_dir) / "diffusion_pytorch_model.safetensors")


def curves(output_dir):
    return [json.loads(line) for line in (Path(output_dir) / "logs" / "train.jsonl").read_text().splitlines()]


def assert_same(first, second):
    """Bit for bit."""
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def assert_alike(one, other):
    """Curves, metrics and weights are equal but for the order in which float32 sums were taken."""
    assert len(curves(one)) == len(curves(other)) == 12
    for expected, line in zip(curves(one), curves(other), strict=True):
        assert line == pytest.approx(expected, rel=1e-4, abs=1e-5)
    first, second = (json.loads((Path(folder) / "metrics.json").read_text()) for folder in (one, other))
    for metrics in (first, second):
        del metrics["images_per_second"]
    assert first == pytest.approx(second, rel=1e-3, abs=1e-5)
    first, second = weights(one), weights(other)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)


def smooth_photographs(folder, count, coarse=(4, 4), size=(16, 16)):
    """Write `count` images with smooth colours, the same at each call: folder/00.png and so on."""
    generator = torch.Generator().manual_seed(0)
    for i in range(count):
        colours = torch.rand(1, 3, *coarse, generator=generator)
        image = torch.nn.functional.interpolate(colours, size, mode="bilinear")[0]
        Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy()).save(folder / f"{i:02d}.png")
    return folder
