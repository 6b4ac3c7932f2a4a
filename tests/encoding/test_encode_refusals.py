"""What `vae-plugin encode` refuses."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from support.encodable import COUNT, DAMAGED, run
from vae_plugin.cli import main
from vae_plugin.datasets import DataError, LatentDataset, load_images


def test_an_image_that_cannot_be_read_has_no_substitute(photos):
    images = load_images(train_data_dir=str(photos), resolution=16, channels=3, center_crop=True)
    found = images.without_substitutes([3, DAMAGED, 10, -1])
    assert isinstance(found[1], DataError)
    assert all(not item["unreadable"] for item in (found[0], *found[2:]))
    for item, number in ((found[0], 3), (found[2], 10), (found[3], 10)):
        assert torch.equal(item["pixel_values"], images[number]["pixel_values"])
    assert len(images[DAMAGED]["unreadable"]) == 1


def test_other_options_another_model_and_other_data_are_refused(models, photos, tmp_path, capsys):
    copied = tmp_path / "photos"
    for path in photos.rglob("*.png"):
        target = copied / path.relative_to(photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    output = tmp_path / "out"
    assert run(models / "vae", copied, output) == 0
    capsys.readouterr()
    refused = {
        ("vae", "--seed", "3"): "--seed 0 instead of 3",
        ("vae", "--resolution", "8"): "--resolution 16 instead of 8",
        ("vae", "--format", "parquet"): "--format webdataset instead of parquet",
        ("vae", "--flips"): "--flips off instead of on",
        ("eight",): "another model",
    }
    for (model, *words), sentence in refused.items():
        assert run(models / model, copied, output, *words) == 2
        shown = capsys.readouterr().err
        assert f"error: {output} holds latents of {sentence}" in shown
        assert "--overwrite" in shown
    Image.new("RGB", (16, 16)).save(copied / "dogs" / "new.png")
    assert run(models / "vae", copied, output) == 2
    assert "other data" in capsys.readouterr().err
    assert run(models / "vae", copied, output, "--format", "parquet", "--overwrite") == 0
    assert not list(output.glob("*.tar"))
    assert len(LatentDataset(output)) == COUNT


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--content", "indices"], "AutoencoderVAE has no indices"),
        (["--content", "posterior", "--format", "lightningdit"], "expect samples"),
        (["--dtype", "bfloat16", "--format", "parquet"], "are in float32 or float16"),
        (["--scaled"], "--scaled is for --content samples"),
        (["--no_flips", "--format", "lightningdit"], "expect the latents of mirrored images"),
        (["--format", "kohya-sd"], "kohya's files hold latents (C, height / 8, width / 8)"),
        (["--label_column", "x"], "leave it out, and the names of their folders are the labels"),
        (["--batch_size", "0"], "--batch_size"),
    ],
)
def test_what_cannot_be_is_one_sentence(words, sentence, models, photos, tmp_path, capsys):
    assert run(models / "vae", photos, tmp_path / "out", *words) == 2
    shown = capsys.readouterr().err
    assert sentence in shown
    assert "Traceback" not in shown


def test_the_output_folder_is_new_or_holds_latents(models, photos, tmp_path, capsys):
    assert run(models / "vae", photos, photos / "latents") == 2
    assert "lies in the data" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert run(models / "vae", photos, tmp_path / "mine", "--overwrite") == 2
    assert "holds files, and no latents.json" in capsys.readouterr().err
    for words, sentence in (([], "no images given"), (["--dataset_name", "circles"], "circles are drawn anew")):
        assert main(["encode", str(models / "vae"), "--output", str(tmp_path / "o"), *words]) == 2
        assert sentence in capsys.readouterr().err
    (tmp_path / "twins").mkdir()
    for ending in ("png", "bmp"):
        Image.new("RGB", (16, 16)).save(tmp_path / "twins" / f"a.{ending}")
    assert run(models / "eight", tmp_path / "twins", tmp_path / "o", "--format", "kohya-sd") == 2
    assert "would share a file" in capsys.readouterr().err


def test_a_folder_that_is_not_whole_is_not_read(models, photos, tmp_path):
    assert run(models / "vae", photos, tmp_path / "out", "--shard_size", "4") == 0
    (tmp_path / "out" / "train-00000-of-00003.tar").unlink()
    with pytest.raises(ValueError, match="has the latents of 6 images, and its"):
        LatentDataset(tmp_path / "out")
    with pytest.raises(ValueError, match=r"has no latents.json"):
        LatentDataset(tmp_path)
