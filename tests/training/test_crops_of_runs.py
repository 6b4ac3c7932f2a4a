"""Runs on crops of large images: resumed bit for bit, and measured on crops of the same mode."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from vae_plugin import cli, finetune
from vae_plugin.files import write_json
from vae_plugin.texts import read_json_object

MODEL = {"block_out_channels": (4, 8), "norm_num_groups": 2, "latent_channels": 2}


def options(output_dir, photos, **changes):
    values = {
        **MODEL,
        "train_data_dir": (str(photos),),
        "output_dir": str(output_dir),
        "resolution": 16,
        "train_batch_size": 4,
        "max_train_steps": 4,
        "num_validation_images": 4,
        "checkpointing_steps": 3,
        "random_flip": True,
        "lr_scheduler": "constant",
    }
    return finetune.options(**{**values, **changes})


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(40):
        width, height = rng.integers(20, 60, 2)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{i:02d}.png")
    return folder


def same(one, other):
    a, b = (load_file(folder / "diffusion_pytorch_model.safetensors") for folder in (one, other))
    return all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("crop", ["native", "multiscale"])
def test_a_run_resumes_bit_for_bit_and_is_measured_in_its_own_mode(crop, photos, tmp_path, capsys):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    metrics = finetune.train(options(whole, photos, crop=crop))
    checkpoint = "checkpoints/step-000003"
    shutil.copytree(whole / checkpoint, resumed / checkpoint)
    finetune.train(options(resumed, photos, crop=crop, resume_from_checkpoint="latest"))
    assert same(whole, resumed)

    assert read_json_object(whole / "run.json")["crop"] == crop
    assert "cut out of larger images" in (whole / "README.md").read_text()
    file = str(tmp_path / "metrics.json")
    evaluate = ["evaluate", str(whole), "--data_dir", str(photos), "--output_file", file]
    capsys.readouterr()
    cli.main(evaluate)
    assert f"run.json tells: --crop {crop}" in "".join(capsys.readouterr())
    again = read_json_object(tmp_path / "metrics.json")
    assert again["psnr"] == pytest.approx(metrics["psnr"], abs=1e-4)
    cli.main([*evaluate, "--crop", "resized"])
    assert "run.json tells" not in "".join(capsys.readouterr())
    resized = read_json_object(tmp_path / "metrics.json")
    assert abs(resized["psnr"] - metrics["psnr"]) > 0.01
    assert resized["num_images"] == again["num_images"] == 4

    record = json.loads((whole / "run.json").read_text())
    write_json(whole / "run.json", {**record, "crop": None})  # as release 0.1 wrote it
    cli.main(evaluate)
    assert read_json_object(tmp_path / "metrics.json") == resized


def test_another_crop_is_refused_on_resume(photos, tmp_path):
    finetune.train(options(tmp_path, photos, max_train_steps=3))
    with pytest.raises(Exception, match="cannot be continued so: --crop was"):
        finetune.train(options(tmp_path, photos, crop="native", resume_from_checkpoint="latest"))
