"""ImageDataset: damaged files, reproducible augmentation and held-out images, in one process and in several."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch.utils.data import DataLoader

from vae_plugin.datasets import DataError, ImageDataset, collate, load_images
from vae_plugin.datasets.framing import Framing
from vae_plugin.datasets.members import Origin
from vae_plugin.datasets.transforms import to_uint8

SIZE = (24, 16)


def photograph(index: int) -> Image.Image:
    """Noise whose mean identifies the image and of which no two crops are equal."""
    pixels = np.random.default_rng(index).integers(0, 20, (*SIZE[::-1], 3)) + 20 * index
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(8):
        photograph(i).save(tmp_path / f"{i}.png")
    return tmp_path


def damage(folder: Path) -> set[str]:
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:300])
    (folder / "4.png").write_bytes(b"")
    (folder / "5.png").write_text("a text of another name")
    (folder / "7.png").unlink()
    (folder / "7.png").symlink_to(folder / "nowhere")
    return {str(folder / f"{i}.png") for i in (1, 4, 5, 7)}


def load(folder: Path, **options: object) -> ImageDataset:
    return load_images(train_data_dir=folder, **{"resolution": 16, "channels": 3, **options})


def which(x: torch.Tensor) -> list[int]:
    """Numbers of the photographs in a batch."""
    return (to_uint8(x).float().mean((1, 2, 3)) / 20).floor().int().tolist()


def test_items_have_the_documented_form(folder):
    images = load(folder, resolution=12)
    item = images[3]
    assert len(images) == 8
    assert item["pixel_values"].shape == (3, 12, 12)
    assert item["pixel_values"].dtype == torch.float32
    assert item["unreadable"] == ()
    assert torch.equal(images[-5]["pixel_values"], item["pixel_values"])
    for index in (8, -9):
        with pytest.raises(IndexError):
            images[index]


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_images_are_replaced_and_named(folder, workers):
    names = damage(folder)
    loader = DataLoader(load(folder), batch_size=4, num_workers=workers, collate_fn=collate)
    first, second = loader
    assert which(first["pixel_values"]) == [0, 2, 2, 3]
    assert which(second["pixel_values"]) == [6, 6, 6, 0]
    assert first["unreadable"] == [str(folder / "1.png")]
    assert set(first["unreadable"] + second["unreadable"]) == names


def test_a_float_image_is_skipped_too(folder):
    Image.fromarray(np.zeros((16, 16), np.float32)).save(folder / "2.tiff")
    images = load(folder)
    assert images[3]["pixel_values"].shape == (3, 16, 16)
    assert images[3]["unreadable"] == (str(folder / "2.tiff"),)


def test_no_readable_image_is_an_error(folder):
    images = load(folder)
    for path in folder.iterdir():
        path.write_text("nothing")
    with pytest.raises(DataError, match="none of the 8"):
        load(folder)
    with pytest.raises(DataError, match=r"2\.png to .*1\.png"):
        images[2]
    with pytest.raises(DataError, match="none of the 8"):
        next(iter(DataLoader(images, num_workers=1, collate_fn=collate)))


def test_a_substitute_is_not_looked_for_without_end(folder, monkeypatch):
    monkeypatch.setattr("vae_plugin.datasets.images.MOST_SUBSTITUTES", 3)
    images = load(folder)
    for i in (2, 3, 4):
        (folder / f"{i}.png").write_text("nothing")
    with pytest.raises(DataError, match=r"none of the 3 image\(s\) from .*2\.png to .*4\.png"):
        images[2]
    assert which(images[3]["pixel_values"][None]) == [5]


def epochs(images: ImageDataset, count: int = 2, **options: object) -> list[torch.Tensor]:
    loader = DataLoader(images, batch_size=3, collate_fn=collate, **options)
    result = []
    for epoch in range(count):
        images.set_epoch(epoch)
        result.append(torch.cat([batch["pixel_values"] for batch in loader]))
    return result


def test_crops_and_flips_depend_on_seed_epoch_and_index_alone(folder):
    images = load(folder, random_flip=True, seed=1)
    first, second = epochs(images)
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    for options in ({"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}):
        for expected, got in zip(
            (first, second), epochs(load(folder, random_flip=True, seed=1), **options), strict=True
        ):
            assert torch.equal(expected, got)
    images.set_epoch(1)
    assert torch.equal(images[6]["pixel_values"], second[6])
    other = epochs(load(folder, random_flip=True, seed=2), 1)[0]
    assert not torch.equal(other, first)


@pytest.mark.slow
def test_spawned_workers_follow_the_epoch_too(folder):
    images = load(folder, random_flip=True)
    options = {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": "spawn"}
    for expected, got in zip(epochs(images), epochs(images, **options), strict=True):
        assert torch.equal(expected, got)


@pytest.mark.slow
def test_accelerate_sets_the_epoch(folder):
    images = load(folder, random_flip=True)
    expected = epochs(images)
    images.set_epoch(7)
    loader = Accelerator(cpu=True).prepare(DataLoader(images, batch_size=3, collate_fn=collate))
    for epoch in range(2):
        loader.set_epoch(epoch)
        assert torch.equal(torch.cat([batch["pixel_values"] for batch in loader]), expected[epoch])


def test_every_crop_and_flip_occurs(folder):
    images = load(folder, random_flip=True)
    whole = torch.from_numpy(np.array(photograph(0))).permute(2, 0, 1)
    crops = [whole[:, :, left : left + 16] for left in range(9)]
    seen = []
    for epoch in range(300):
        images.set_epoch(epoch)
        x = to_uint8(images[0]["pixel_values"])
        seen += [i for i, crop in enumerate(crops + [crop.flip(2) for crop in crops]) if torch.equal(x, crop)]
    counts = np.bincount(seen, minlength=18)
    assert counts.sum() == 300
    assert counts.min() > 3
    assert abs(counts[:9].sum() - 150) < 4 * np.sqrt(300) / 2


def test_center_crop_takes_the_centre(folder):
    whole = torch.from_numpy(np.array(photograph(2))).permute(2, 0, 1)
    assert torch.equal(to_uint8(load(folder, center_crop=True)[2]["pixel_values"]), whole[:, :, 4:20])


def test_held_out_images_are_disjoint_fixed_and_cropped_at_the_centre(folder):
    train, validation = load(folder, random_flip=True, seed=3).split(3)
    assert (len(train), len(validation)) == (5, 3)
    assert sorted(which(epochs(train, 1)[0]) + which(epochs(validation, 1)[0])) == list(range(8))
    again = load(folder, random_flip=True, seed=3).split(3)[1]
    a, b = epochs(validation)
    assert torch.equal(a, b)
    assert torch.equal(a, epochs(again, 1)[0])
    centre = load(folder, center_crop=True)
    assert torch.equal(a, torch.stack([centre[i]["pixel_values"] for i in which(a)]))
    splits = {tuple(load(folder, seed=seed).split(3)[1].rows) for seed in range(5)}
    assert len(splits) > 1


def test_splitting_leaves_the_augmentation_of_an_image(folder):
    images = load(folder, random_flip=True)
    train, _ = images.split(3)
    for i, row in enumerate(train.rows):
        assert torch.equal(train[i]["pixel_values"], images[int(row)]["pixel_values"])


def test_a_substitute_comes_from_the_same_side(folder):
    damage(folder)
    train, validation = load(folder).split(2)
    held_out = set(validation.rows.tolist())
    if held_out <= {1, 4, 5, 7}:
        pytest.fail("choose another seed: one held-out image must be readable")
    assert set(which(epochs(validation, 1)[0])) <= held_out
    assert not set(which(epochs(train, 1)[0])) & held_out


@pytest.mark.parametrize("count", [0, 8, 9, -1])
def test_both_sides_need_an_image(folder, count):
    with pytest.raises(DataError, match="of 8 image"):
        load(folder).split(count)


def test_a_pickled_copy_is_the_same(folder):
    images = load(folder, random_flip=True).split(2)[0]
    images.set_epoch(4)
    copy = pickle.loads(pickle.dumps(images))
    assert torch.equal(copy[1]["pixel_values"], images[1]["pixel_values"])


def test_rows_of_bytes_are_named_by_file_and_row():
    file = io.BytesIO()
    photograph(0).save(file, "JPEG")
    good, bad = {"bytes": file.getvalue(), "path": "x.jpg"}, {"bytes": file.getvalue()[:300], "path": "x.jpg"}
    table = datasets.Dataset.from_list([{"image": value} for value in (good, bad, good, good, None, bad, good)])
    options = {"framing": Framing(16), "channels": 3}
    origin = Origin(sources=(("a.parquet", 3), ("empty.parquet", 0), ("b.parquet", 4)))
    images = ImageDataset(table, "image", origin=origin, **options)
    assert images[1]["unreadable"] == ("row 1 of a.parquet",)
    assert images[4]["unreadable"] == ("row 1 of b.parquet", "row 2 of b.parquet")
    assert ImageDataset(table, "image", **options)[5]["unreadable"] == ("row 5",)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"channels": 0}, "RGBA"), ({"resolution": 0}, "resolution is 0"), ({"seed": -1}, "seed is -1")],
)
def test_impossible_options_are_refused(folder, options, message):
    with pytest.raises(DataError, match=message):
        load(folder, **options)
