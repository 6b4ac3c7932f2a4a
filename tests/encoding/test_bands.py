"""`vae-plugin encode` of images of two bands of floats: against the model itself on what numpy scaled."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from support.encodable import tiny_vae
from vae_plugin import AutoencoderVAE
from vae_plugin.autoencoders import adapt
from vae_plugin.cli import main
from vae_plugin.datasets import LatentDataset

LOW, HIGH = -40.0, 10.0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model that records a range, the same one without it, and float images of two bands."""
    folder = tmp_path_factory.mktemp("two")
    model = tiny_vae(in_channels=2)
    model.save_pretrained(folder / "untold")
    adapt(model).record_value_range((LOW, HIGH))
    model.save_pretrained(folder / "told")
    (folder / "data").mkdir()
    for number in range(3):
        values = np.random.default_rng(number).uniform(LOW, HIGH, (16, 16, 2)).astype(np.float32)
        np.save(folder / "data" / f"{number}.npy", values)
    return folder


def encode(place, name, output, *words):
    return main(["encode", str(place / name), "--data_dir", str(place / "data"), "--output", str(output), *words])


def means(place, output, low, high):
    """The means that were written, and those of the model for values scaled by numpy."""
    model, pairs = AutoencoderVAE.from_pretrained(place / "told").eval(), []
    for item in LatentDataset(output):
        values = (np.load(place / "data" / item["name"]).astype(np.float64) - low) / (high - low) * 2 - 1
        x = torch.from_numpy(values.clip(-1, 1).transpose(2, 0, 1)).float()[None]
        with torch.no_grad():
            pairs.append((item["mean"], model.encode(x).latent_dist.mean[0]))
    assert len(pairs) == 3
    return pairs


def test_the_range_of_the_model_is_taken_and_recorded_and_another_one_wins(place, tmp_path, capsys):
    assert encode(place, "told", tmp_path / "out") == 0
    for found, expected in means(place, tmp_path / "out", LOW, HIGH):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert json.loads((tmp_path / "out" / "latents.json").read_text())["value_range"] == [LOW, HIGH]
    assert encode(place, "told", tmp_path / "other", "--value_range", "-50", "50") == 0
    for found, expected in means(place, tmp_path / "other", -50, 50):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert "clipped" not in capsys.readouterr().err
    assert encode(place, "told", tmp_path / "narrow", "--value_range", "-40", "0") == 0
    assert "3 image(s) have values beyond --value_range -40 0, which were clipped: 0.npy, 1" in capsys.readouterr().err
    assert encode(place, "told", tmp_path / "out", "--value_range", "-50", "50") == 2
    assert "holds latents of --value_range [-40.0, 10.0] instead of [-50.0, 50.0]" in capsys.readouterr().err


def test_without_a_range_it_is_asked_for(place, tmp_path, capsys):
    assert encode(place, "untold", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "none of the 3 image(s)" in said
    assert "the pixels are floats of unknown range" in said
    assert "give it by --value_range LOW HIGH" in said
    assert encode(place, "untold", tmp_path / "out", "--value_range", "3", "3") == 2
    assert "give two numbers, the lower one first" in capsys.readouterr().err
    assert encode(place, "untold", tmp_path / "out", "--value_range", str(LOW), str(HIGH)) == 0
