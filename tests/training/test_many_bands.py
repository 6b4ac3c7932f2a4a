"""Images of five bands of floats, from files of arrays to the card, and what is done with the result untold."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
import torch

from vae_plugin import finetune
from vae_plugin.cli import main
from vae_plugin.commands.evaluate import run as evaluate
from vae_plugin.errors import UserError
from vae_plugin.widgets import LatentLab

LOW, HIGH = -1000.0, 3000.0
RUN = {
    "in_channels": 5,
    "resolution": 16,
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "train_batch_size": 4,
    "max_train_steps": 2,
    "lr_warmup_steps": 0,
    "num_validation_images": 2,
}


def chip(seed):
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(LOW, HIGH, (5, 5, 6)).repeat(4, 1).repeat(4, 2)
    return coarse.astype(np.float32)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bands")
    (folder / "chips").mkdir()
    for seed in range(22):
        np.save(folder / "chips" / f"{seed:02}.npy", chip(seed))
    out = folder / "out"
    finetune.train(
        finetune.options(**RUN, train_data_dir=str(folder / "chips"), output_dir=str(out), value_range=(LOW, HIGH))
    )
    return folder


def test_the_run_measures_and_records_the_range(result):
    out = result / "out"
    assert json.loads((out / "config.json").read_text())["_value_range"] == [LOW, HIGH]
    assert json.loads((out / "run.json").read_text())["value_range"] == [LOW, HIGH]
    card = (out / "README.md").read_text()
    assert "an image of 5 channels" in card
    assert "The values -1000 to 3000 of image files are -1 to 1" in card
    assert "Its pictures show channels 0, 1 and 2 of an image, counted from 0, as red, green and blue." in card
    assert {"psnr", "ssim"} <= json.loads((out / "metrics.json").read_text()).keys()
    assert (out / "samples" / "reconstructions.png").exists()


def test_evaluate_reconstruct_and_a_fine_tune_know_the_range(result, tmp_path, capsys):
    out, chips = str(result / "out"), str(result / "chips")
    measured = evaluate([out, "--train_data_dir", chips, "--resolution", "16"], "evaluate")
    assert measured["psnr"] == pytest.approx(
        json.loads((result / "out" / "metrics.json").read_text())["psnr"], abs=1e-3
    )
    assert "clipped" not in capsys.readouterr().err
    evaluate([out, "--train_data_dir", chips, "--resolution", "16", "--value_range", "0", "3000"], "evaluate")
    held_out = json.loads((result / "out" / "metrics.json").read_text())["num_images"]
    said = f"note: {held_out} image(s) have values beyond --value_range 0 3000, which were clipped: "
    assert said in capsys.readouterr().err
    tifffile.imwrite(tmp_path / "chip.tif", chip(1), photometric="minisblack", metadata=None)
    words = [str(result / "chips" / "00.npy"), str(tmp_path / "chip.tif"), "--output_dir", str(tmp_path / "made")]
    assert main(["reconstruct", out, *words]) == 0
    made = np.load(tmp_path / "made" / "00-reconstruction.npy")
    assert (made.shape, made.dtype) == ((20, 24, 5), np.float32)
    assert LOW <= made.min() < made.max() <= HIGH
    assert tifffile.imread(tmp_path / "made" / "chip-reconstruction.tif").shape == (20, 24, 5)
    assert (tmp_path / "made" / "chip-reconstruction.png").exists()
    more = {"train_data_dir": chips, "resolution": 16, "max_train_steps": 1, "train_batch_size": 4}
    next_run = {
        **more,
        "lr_warmup_steps": 0,
        "pretrained_model_name_or_path": out,
        "output_dir": str(tmp_path / "next"),
    }
    finetune.train(finetune.options(**next_run))
    assert json.loads((tmp_path / "next" / "config.json").read_text())["_value_range"] == [LOW, HIGH]
    with pytest.raises(UserError, match="give two numbers, the lower one first"):
        finetune.options(**next_run, value_range=(3.0, 3.0))
    capsys.readouterr()


def test_the_lab_shows_the_bands_that_are_chosen(result):
    lab = LatentLab(str(result / "out"), str(result / "chips"), resolution=16, bands=(3, 1, 0))
    try:
        lab.wait()
        x = lab.load(result / "chips" / "03.npy")
        assert x.shape == (5, 16, 16)
        shown = np.asarray(lab.original)[..., :3].astype(float)
        expected = (lab.pixels[[3, 1, 0]].permute(1, 2, 0).numpy() + 1) * 127.5
        assert np.abs(shown - expected).max() <= 0.51
    finally:
        lab.close()
    lab = LatentLab(str(result / "out"), str(result / "chips"), resolution=16, max_images=2, value_range=(-2000, 6000))
    try:
        half = (lab.load(result / "chips" / "03.npy") + 1) * 4000 - 2000
        assert torch.allclose(half.clamp(LOW, HIGH), (x + 1) * 2000 - 1000, atol=0.1)  # the filter overshoots at edges
        assert torch.equal(lab.images[0], lab.load(result / "chips" / "00.npy"))
    finally:
        lab.close()
    for wrong in ((3000, 0), (0,), (0, float("nan")), "01", 5):
        with pytest.raises(UserError, match=r"value_range is .*: give two numbers, the lower one first"):
            LatentLab(str(result / "out"), torch.zeros(1, 5, 16, 16), resolution=16, value_range=wrong)
    for bands in ((0, 1), (5,), 5, (0, 1, True)):
        with pytest.raises(UserError, match="give one band, or three for red, green and blue, each from 0 to 4"):
            LatentLab(str(result / "out"), torch.zeros(1, 5, 16, 16), resolution=16, bands=bands)
