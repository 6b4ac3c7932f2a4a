"""`encode` and `evaluate` on two processes: what one process gives."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.built import ROOT
from support.encodable import photograph, tiny_vae
from vae_plugin.cli import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("here")
    tiny_vae().save_pretrained(folder / "model")
    photograph(folder / "photos" / f"{number:02d}.png" for number in range(13))
    (folder / "photos" / "04.png").write_bytes(b"no image")
    return folder


def on_two(here: Path, command: str, *words: str) -> str:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    arguments = ["-m", "vae_plugin.cli", command, "model", "--data_dir", "photos", *words]
    done = subprocess.run([*launch, *arguments], cwd=here, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers_in(value, name=""):
    """The numbers of nested maps and lists, by where they stand."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, (dict, list)):
        return {name: value} if isinstance(value, (int, float)) else {}
    return {key: number for part, each in items for key, number in numbers_in(each, f"{name}.{part}").items()}


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_encode_writes_the_same_files(here, monkeypatch):
    monkeypatch.chdir(here)
    words = ["--shard_size", "3", "--batch_size", "2", "--content", "samples"]
    assert main(["encode", "model", "--data_dir", "photos", "--output", "one", *words]) == 0
    shown = on_two(here, "encode", "--output", "two", *words)
    assert shown.count("the latents of 12 images") == 1
    files = [{p.name: p.read_bytes() for p in Path(name).iterdir() if p.name != ".lock"} for name in ("one", "two")]
    assert len(files[0]) == 6
    assert files[0] == files[1]


def test_evaluate_measures_the_same(here, monkeypatch):
    monkeypatch.chdir(here)
    words = ["--drift_images", "9", "--page_images", "5"]
    places = [["--output_file", f"{name}.json", "--page", f"{name}.html"] for name in ("one", "two")]
    assert main(["evaluate", "model", "--data_dir", "photos", *words, *places[0]]) == 0
    on_two(here, "evaluate", *words, *places[1])
    one, two = (json.loads(Path(name).read_text()) for name in ("one.json", "two.json"))
    assert one.keys() == two.keys()
    assert two["num_images"] == 12
    assert two["drift_images"] == 8  # of the first nine, one cannot be read
    pages = [re.findall('data:image/png;base64,[^"]+', Path(f"{name}.html").read_text()) for name in ("one", "two")]
    assert len(pages[0]) == 10
    assert pages[0] == pages[1]
    assert numbers_in(two) == pytest.approx(numbers_in(one), rel=1e-5, abs=1e-7)
