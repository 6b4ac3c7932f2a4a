"""`encode` in a process of its own, killed at any moment: in the end it has written what a run that was not has."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from support.built import ROOT
from support.encodable import photograph, tiny_vae
from vae_plugin.cli import main
from vae_plugin.datasets import LatentDataset

pytestmark = pytest.mark.slow
COUNT = 240


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("here")
    tiny_vae().save_pretrained(folder / "model")
    photograph(folder / "photos" / f"{number:03d}.png" for number in range(COUNT))
    return folder


def whole(output: Path) -> int:
    """How many shards have appeared."""
    return len([path for path in output.glob("*-of-*") if path.suffix in (".tar", ".parquet", ".safetensors")])


@pytest.mark.parametrize("layout", ["webdataset"])
def test_a_process_that_is_killed_at_any_moment_loses_and_doubles_no_image(here, layout):
    words = ["--format", layout, "--content", "samples", "--shard_size", "7", "--batch_size", "2"]
    common = ["encode", str(here / "model"), "--data_dir", str(here / "photos"), *words, "--output"]
    output, chance = here / f"{layout} killed", random.Random(layout)
    for kind in (signal.SIGKILL, signal.SIGTERM):
        before = whole(output)
        process = subprocess.Popen(
            [sys.executable, "-m", "vae_plugin.cli", *common, str(output)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # as here: sums of several threads are rounded otherwise
            stderr=subprocess.PIPE,
            text=True,
        )
        while whole(output) < before + 2 and process.poll() is None:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.02)
        process.send_signal(kind)
        told = process.communicate()[1]
        assert process.returncode != 0  # it had not ended by itself
        assert kind == signal.SIGKILL or "the same command goes on with what is whole" in told
        assert before < whole(output) < COUNT // 7
    for folder in (output, here / f"{layout} at once"):
        assert main([*common, str(folder)]) == 0
    one, other = LatentDataset(here / f"{layout} at once"), LatentDataset(output)
    assert len(one) == len(other) == COUNT
    for image, again in zip(one, other, strict=True):
        assert image.keys() == again.keys()
        assert all(np.array_equal(image[name], again[name]) for name in image)
    files = [
        {path.name for path in found.iterdir() if path.name != ".lock"}
        for found in (output, here / f"{layout} at once")
    ]
    assert files[0] == files[1]
