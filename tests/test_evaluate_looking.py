"""What `evaluate` writes to be looked at, and its checks: a page, a picture, drift, colours and ranges."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from support.tiny_diffusers import tiny
from vae_plugin.autoencoders import adapt
from vae_plugin.cli import main
from vae_plugin.metrics import Drift, flat_colours

SIDE, COUNT = 16, 7


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Folders of two models and of images, and the images (N, 3, H, W)."""
    folder = tmp_path_factory.mktemp("given")
    tiny("AutoencoderKL").save_pretrained(folder / "a")
    tiny("AutoencoderTiny").save_pretrained(folder / "b")
    (folder / "images").mkdir()
    levels = np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3)).astype(np.uint8)
    for i, pixels in enumerate(levels):
        Image.fromarray(pixels // (1 + i)).save(folder / "images" / f"{i}.png")
    x = torch.from_numpy(np.stack([pixels // (1 + i) for i, pixels in enumerate(levels)])).movedim(-1, 1)
    return folder, x.float() / 127.5 - 1


@pytest.fixture(scope="module")
def measured(given):
    """JSON, page and picture of both models on all images."""
    folder, _ = given
    words = [str(folder / "a"), str(folder / "b"), "--data_dir", str(folder / "images"), "--resolution", str(SIDE)]
    places = {"page": "page.html", "picture": "deep/picture.png", "output_file": "out.json"}
    for option, place in places.items():
        words += [f"--{option}", str(folder / place)]
    assert main(["evaluate", *words, "--page_images", "6", "--drift_images", "5"]) == 0
    return json.loads((folder / "out.json").read_text())["models"], folder


def test_the_page_has_the_images_and_what_the_models_make_of_them(given, measured):
    models, folder = measured
    page = (folder / "page.html").read_text("utf-8")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    assert [model["name"] for model in data["models"]] == ["a", "b"]
    assert (len(data["images"]), data["num_images"]) == (6, COUNT)
    for model in data["models"]:
        assert model["psnr"] == models[model["name"]]["psnr"]
    adapters = [adapt(tiny(name)) for name in ("AutoencoderKL", "AutoencoderTiny")]
    for shown in data["images"]:
        number = int(re.search(r"(\d)\.png$", shown["name"])[1])
        x = given[1][number][None]
        with torch.no_grad():
            expected = [x, *(adapter.reconstruct(x) for adapter in adapters)]
        for url, image in zip(shown["pictures"], expected, strict=True):
            found = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))).astype(int)
            levels = ((image[0].clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).numpy()
            assert np.abs(found - levels).max() <= 1  # they were reconstructed one at a time or not
    tags = [tag for shown in data["images"] for tag in shown["tags"]]
    assert sorted(tags) == sorted(f"{what} of {name}" for name in "ab" for what in ("best", "median", "worst"))
    [worst] = [shown for shown in data["images"] if "worst of a" in shown["tags"]]
    assert worst["psnr"][0] == pytest.approx(models["a"]["psnr_worst"], abs=1e-2)


def test_the_picture_shows_the_extremes_of_both_models(measured):
    _, folder = measured
    picture = Image.open(folder / "deep" / "picture.png")
    assert picture.mode == "RGB"
    assert picture.width > 3 * 128
    assert picture.height > 2 * 3 * 128


@pytest.mark.slow
def test_drift_and_colours_are_those_of_the_functions(given, measured):
    models, _ = measured
    for name, class_name in (("a", "AutoencoderKL"), ("b", "AutoencoderTiny")):
        adapter, result = adapt(tiny(class_name)), models[name]
        drift = Drift()
        drift.add(given[1][:5], adapter.reconstruct)
        expected = drift.result()
        for trips in (1, 2, 5):
            assert result[f"drift_psnr_{trips}"] == pytest.approx(expected[f"drift_psnr_{trips}"], abs=1e-2)
            bias = result["per_channel"][f"drift_bias_{trips}"]
            assert bias == pytest.approx(expected[f"drift_bias_{trips}"], abs=0.05)
        assert result["drift_images"] == 5
        ratio = adapter.spatial_compression_ratio
        flat = flat_colours(adapter.reconstruct, 3, SIDE, SIDE, ratio).metrics()
        assert {key: result[key] for key in flat} == pytest.approx(flat, rel=1e-3)
        with torch.no_grad():
            z = adapter.latents(given[1]).movedim(1, 0).flatten(1)
        assert result["per_channel"]["latent_min_per_channel"] == pytest.approx(z.amin(1).tolist(), rel=1e-4)
        assert result["per_channel"]["latent_max_per_channel"] == pytest.approx(z.amax(1).tolist(), rel=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--page_images", "3"], "--page_images"),
        (["--page", "{folder}"], "is a folder: name a file in it"),
        (["--picture", "{folder}/a/config.json/x.png"], "cannot be the output folder"),
        (["--picture", "{folder}/x.jpg"], "is written as PNG"),
        (["--output_file", "{folder}/images"], "is a folder: name a file in it"),
        (["--output_file", "/dev/null"], "is a device"),
        (["--output_file", "{folder}/" + 255 * "x"], "cannot be written (File name too long)"),
        (
            ["--page", "{folder}/x.png", "--picture", "{folder}/a/../x.png"],
            "--page and --picture {folder}/a/../x.png are the same file: give each its own.",
        ),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_measured(given, capsys, words, message):
    folder, _ = given
    words = [word.format(folder=folder) for word in words]
    assert main(["evaluate", str(folder / "a"), "--data_dir", str(folder / "images"), *words]) == 2
    written = capsys.readouterr()
    assert message.format(folder=folder) in written.err
    assert written.err.count("\n") == 1
    assert not written.out
