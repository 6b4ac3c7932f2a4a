"""A model is measured on images that its run held out, and a part of a data set is drawn rather than its beginning."""

import json
import shutil

import pytest
from PIL import Image

from support.tiny_diffusers import tiny
from vae_plugin import cli
from vae_plugin.datasets import draw, load_images
from vae_plugin.datasets.members import DataRecord
from vae_plugin.datasets.trained_on import find_record, held_out_of, save_record
from vae_plugin.datasets.transforms import to_uint8
from vae_plugin.errors import UserError
from vae_plugin.hub.folder import published_files


def write(folder, numbers):
    folder.mkdir(parents=True, exist_ok=True)
    for i in numbers:
        Image.new("RGB", (16, 16), (i, 0, 0)).save(folder / f"{i:03d}.png")
    return folder


def load(folder):
    return load_images(train_data_dir=folder, resolution=16, channels=3)


def numbers(images):
    return [int(to_uint8(images[i]["pixel_values"])[0, 0, 0]) for i in range(len(images))]


def record_of(folder, count=4):
    images = load(folder)
    _, validation = images.split(count)
    return DataRecord(digest=images.origin.digest, images=len(images), held_out=validation.named_contents())


def test_what_was_held_out_is_found_in_the_same_data_and_in_data_that_grew(tmp_path):
    record = record_of(write(tmp_path / "a", range(40)))
    expected = [int(name[:3]) for name in record.held_out]
    shutil.copytree(tmp_path / "a", tmp_path / "moved")
    images, sentence = held_out_of(load(tmp_path / "moved"), record)
    assert numbers(images) == expected
    assert sentence.endswith("only those that its run held out are measured, 4 of 40.")
    images, sentence = held_out_of(load(write(tmp_path / "moved", range(40, 50))), record)
    assert numbers(images) == expected
    assert "which have changed since" in sentence


def test_a_folder_above_or_below_holds_the_same_images(tmp_path):
    data = tmp_path / "above" / "data"
    write(data / "low", range(20))
    write(data / "high", range(20, 40))
    record = record_of(data, 8)
    expected = [int(name.rpartition("/")[2][:3]) for name in record.held_out]
    write(tmp_path / "above" / "others", range(40, 60))
    images, sentence = held_out_of(load(tmp_path / "above"), record)
    assert sorted(numbers(images)) == sorted(expected)
    assert "trained on some of the images" in sentence
    images, _ = held_out_of(load(data / "low"), record)
    assert sorted(numbers(images)) == sorted(number for number in expected if number < 20)


def test_other_data_are_measured_as_they_are(tmp_path):
    record = record_of(write(tmp_path / "a", range(40)))
    assert held_out_of(load(write(tmp_path / "others", range(40, 80))), record) is None
    renamed = write(tmp_path / "same names", range(40))
    for path in renamed.iterdir():
        Image.new("RGB", (16, 16), (200, 0, 0)).save(path)
    assert held_out_of(load(renamed), record) is None
    assert held_out_of(load(tmp_path / "a"), DataRecord()) is None


def test_the_record_stays_beside_the_weights_and_is_not_published(tmp_path):
    record = record_of(write(tmp_path / "a", range(40)))
    tiny("AutoencoderKL").save_pretrained(tmp_path / "out")
    tiny("AutoencoderKL").save_pretrained(tmp_path / "out" / "best")
    save_record(record, tmp_path / "out")
    for model in ("out", "out/best", "out/diffusion_pytorch_model.safetensors"):
        assert find_record(tmp_path / model) == record
    assert find_record(tmp_path / "a") is find_record("user/name") is None
    assert "data.json" not in published_files(tmp_path / "out")
    (tmp_path / "out" / "data.json").write_text(json.dumps({"rules": 2, "held_out": [1]}))
    with pytest.raises(UserError, match=r"data\.json says of the data is damaged"):
        find_record(tmp_path / "out")
    save_record(DataRecord(), tmp_path / "out")
    assert find_record(tmp_path / "out") is None


def test_evaluate_says_so_and_measures_what_was_held_out(tmp_path, capsys):
    photographs = write(tmp_path / "a", range(40))
    tiny("AutoencoderKL").save_pretrained(tmp_path / "out")
    words = ["evaluate", str(tmp_path / "out"), "--train_data_dir", str(photographs), "--resolution", "16", "--json"]
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out)["num_images"] == 40
    save_record(record_of(photographs), tmp_path / "out")
    assert cli.main(words) == 0
    printed = capsys.readouterr()
    assert printed.err.endswith("only those that its run held out are measured, 4 of 40.\n")
    assert json.loads(printed.out)["num_images"] == 4


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_part_is_drawn_from_all_of_a_sorted_set(seed):
    """Twenty of ten classes of twenty: that fewer than six were met has a chance below 1e-5."""
    items = list(range(200))
    drawn = draw(items, 20, seed)
    assert len(set(drawn)) == 20
    assert list(drawn) == sorted(drawn)
    assert len({i // 20 for i in drawn}) >= 6
    assert list(drawn) == list(draw(items, 20, seed))
    assert list(drawn) != list(draw(items, 20, seed + 3))
    assert draw(items, 200, seed) is draw(items, None, seed) is items
