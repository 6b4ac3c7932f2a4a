"""Runs on crops of large images: resumed bit for bit, and measured on crops of the same mode."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file

from vae_plugin import cli, finetune
from vae_plugin.datasets.members import DataRecord
from vae_plugin.errors import UserError
from vae_plugin.files import write_json
from vae_plugin.texts import read_json_object
from vae_plugin.training.data import TrainingData
from vae_plugin.training.settings import DataSettings, OptimizationSettings

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


def test_images_that_are_kept_change_nothing_when_a_run_resumes_in_its_second_epoch(photos, tmp_path):
    steps = {"max_train_steps": 12, "checkpointing_steps": 11}  # an epoch has nine
    kept, resumed = tmp_path / "kept", tmp_path / "resumed"
    finetune.train(options(kept, photos, **steps, crop="multiscale", image_cache_mib=8))
    checkpoint = "checkpoints/step-000011"
    shutil.copytree(kept / checkpoint, resumed / checkpoint)
    finetune.train(
        options(resumed, photos, **steps, crop="multiscale", image_cache_mib=0, resume_from_checkpoint="latest")
    )
    assert same(kept, resumed)


@pytest.mark.slow
@pytest.mark.parametrize("crop", ["native", "multiscale", "whole"])
def test_a_run_resumes_bit_for_bit_and_is_measured_in_its_own_mode(crop, photos, tmp_path, capsys):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    metrics = finetune.train(options(whole, photos, crop=crop))
    checkpoint = "checkpoints/step-000003"
    shutil.copytree(whole / checkpoint, resumed / checkpoint)
    finetune.train(options(resumed, photos, crop=crop, resume_from_checkpoint="latest"))
    assert same(whole, resumed)

    assert read_json_object(whole / "run.json")["crop"] == crop
    assert {"whole": "of several aspect ratios"}.get(crop, "cut out of larger images") in (
        whole / "README.md"
    ).read_text()
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
    without = read_json_object(tmp_path / "metrics.json")
    assert resized["setting"].pop("options").pop("crop") == "resized"
    assert "crop" not in without["setting"].pop("options")
    assert without == resized


def test_another_crop_is_refused_on_resume(photos, tmp_path):
    finetune.train(options(tmp_path, photos, max_train_steps=3))
    with pytest.raises(UserError, match="cannot be continued so: --crop was"):
        finetune.train(options(tmp_path, photos, crop="native", resume_from_checkpoint="latest"))


def data_of(photos, batch_size, record=None, **changes):
    settings = DataSettings(
        train_data_dir=(str(photos),), resolution=16, num_validation_images=4, crop="whole", **changes
    )
    optimization = OptimizationSettings(train_batch_size=batch_size, max_train_steps=4)
    return TrainingData(settings, optimization, 3, Accelerator(cpu=True), record or DataRecord(), 4)


def test_every_image_of_a_run_has_a_bucket_that_fills_a_batch(photos):
    data = data_of(photos, 8)
    counts = np.bincount(data.buckets)
    assert counts.min() >= 8
    assert counts.sum() == data.size == 36
    assert data.images_per_epoch == (counts // 8 * 8).sum()
    assert len(data.validation.framing.buckets) > len(counts)  # these are measured, whatever the batch
    (note,) = data.notes[1:]
    assert note.startswith("whole images, in batches of one size: ")
    shapes = {tuple(share.images.shape[1:]) for share in data.validation_images()}
    assert len(shapes) > 1
    with pytest.raises(UserError, match="36 training images of one size do not fill one step of 37"):
        data_of(photos, 37)


def test_other_batches_of_one_size_begin_a_new_pass(photos):
    record = data_of(photos, 4).record
    again = DataRecord.read(json.loads(json.dumps(record.to_dict())), "a checkpoint")
    assert not data_of(photos, 4, again).regrouped
    assert data_of(photos, 2, again).regrouped


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "mlp", "hidden_sizes": (8,), "block_out_channels": None}, "takes 16 x 16 pixels only"),
        ({"remote_images": True}, "needs the sizes of all images"),
    ],
)
def test_what_cannot_have_several_sizes_is_refused(changes, message, photos, tmp_path):
    model = {} if "network" in changes else MODEL
    values = {"train_data_dir": (str(photos),), "output_dir": str(tmp_path), "resolution": 16, "crop": "whole"}
    changes = {name: value for name, value in changes.items() if value is not None}
    with pytest.raises(UserError, match=message):
        finetune.train(finetune.options(**{**model, **values, "max_train_steps": 1, **changes}))
