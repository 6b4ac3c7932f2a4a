"""Batches of images, kept and not: each item is what Pillow makes of its file alone, however it is asked for."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset

from vae_plugin.datasets import DataRules, ImageDataset, ImageReader, collate, load_images
from vae_plugin.datasets.decoded import Decoded
from vae_plugin.datasets.framing import Framing
from vae_plugin.datasets.kept import MIB, KeptImages

DAMAGED = (3, 4, 9)
FORMATS = ("PNG", "JPEG", "WEBP")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Images of several sizes and formats, some of them damaged."""
    folder = tmp_path_factory.mktemp("images")
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 256, (16 + i, 40 - 2 * i, 3)).astype(np.uint8)
        image = Image.fromarray(pixels).resize((160, 120)) if i % 3 == 1 else Image.fromarray(pixels)
        image.save(folder / f"{i:02}.{FORMATS[i % 3].lower()}", FORMATS[i % 3])
    for i in DAMAGED:
        (folder / f"{i:02}.{FORMATS[i % 3].lower()}").write_bytes(b"no image")
    return folder


def load(folder: Path, keep_bytes: int = 0, channels: int = 3, **framing) -> ImageDataset:
    framing = {"resolution": 12, "random_flip": True, **framing}
    return load_images(train_data_dir=folder, channels=channels, seed=5, keep_bytes=keep_bytes, **framing)


def alone(images: ImageDataset, index: int, epoch: int) -> torch.Tensor:
    """An item by a reader of its own, of the first readable image from `index` on."""
    row = index
    while row in DAMAGED:
        row += 1
    return shown(images, row, (5, epoch, index))


def shown(images: ImageDataset, row: int, key: tuple[int, ...]) -> torch.Tensor:
    """An image as it is seen by a key, by a reader of its own."""
    return ImageReader().tensor(images.table[row]["image"], images.channels, images.framing.keyed(key))


@pytest.mark.parametrize("crop", ["resized", "multiscale"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("keep_bytes", [0, 4000, MIB])
def test_the_items_of_a_batch_are_those_of_their_images_alone(folder, crop, channels, keep_bytes):
    images = load(folder, keep_bytes, channels, crop=crop)
    for epoch in range(3):
        images.set_epoch(epoch)
        order = np.random.default_rng(epoch).integers(0, 12, 9).tolist()
        for index, item in zip(order, images.__getitems__(order), strict=True):
            assert torch.equal(item["pixel_values"], alone(images, index, epoch))
            skipped = [i for i in DAMAGED if index <= i and set(range(index, i)) <= set(DAMAGED)]
            assert [Path(name).stem for name in item["unreadable"]] == [f"{i:02}" for i in skipped]
        assert torch.equal(images[order[0]]["pixel_values"], images.__getitems__(order)[0]["pixel_values"])
    filled = int(images.kept._filled[0]) if keep_bytes else 0
    assert filled <= keep_bytes
    assert bool(filled) == bool(keep_bytes)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_images_of_the_right_size_are_taken_together(tmp_path, channels, flip):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 12, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
    images = load(tmp_path, MIB, channels, random_flip=flip)
    images.__getitems__(range(12))
    together = images.kept.alike(np.arange(12), (12, 12))
    assert together is not None
    assert together.shape == (12, 12, 12, 3)[: 4 if channels == 3 else 3]
    assert images.kept.alike(np.arange(12), (12, 11)) is None
    for epoch in range(2):
        images.set_epoch(epoch)
        order = [*range(11, -1, -1), 3, 3]
        for index, item in zip(order, images.__getitems__(order), strict=True):
            assert torch.equal(item["pixel_values"], shown(images, index, (5, epoch, index)))
            assert item["unreadable"] == ()


def test_a_kept_image_is_not_read_again(folder, monkeypatch):
    images, opened = load(folder, MIB), []
    decode = ImageReader.decode
    monkeypatch.setattr(ImageReader, "decode", lambda self, *given: opened.append(1) or decode(self, *given))
    views = images.split(2)
    for _ in range(3):
        for view in (*views, Subset(images, range(12))):
            list(DataLoader(view, batch_size=4, collate_fn=collate))
    once = len(opened)
    assert once >= 8
    list(DataLoader(Subset(images, [0, 1, 2, 5, 6, 7, 8, 10, 11]), batch_size=4, collate_fn=collate))
    assert len(opened) == once


def test_loading_processes_fill_the_memory_of_the_one_that_started_them(folder):
    images = load(folder, MIB)
    first = [batch["pixel_values"] for batch in DataLoader(images, 3, num_workers=2, collate_fn=collate)]
    assert set(range(12)) - set(DAMAGED) == {row for row in range(12) if row in images.kept}
    again = [batch["pixel_values"] for batch in DataLoader(images, 3, num_workers=2, collate_fn=collate)]
    assert torch.equal(torch.cat(first), torch.cat(again))


def test_a_copy_for_another_process_keeps_nothing(folder):
    images = load(folder, MIB)
    assert 0 in images.kept
    copy = pickle.loads(pickle.dumps(images))
    assert copy.kept.limit == 0
    assert torch.equal(copy[0]["pixel_values"], images[0]["pixel_values"])


def test_memory_is_filled_to_its_limit_and_no_further():
    kept = KeptImages(5, 100)
    for row, side in enumerate((6, 7, 4, 3, 1)):  # 36 + 49 bytes; 16 more do not fit, 9 do
        kept.put(row, Decoded(np.full((side, side), row, np.uint8), (side, side)))
    assert [row in kept for row in range(5)] == [True, True, False, True, True]
    assert int(kept._filled[0]) == 36 + 49 + 9 + 1
    assert np.array_equal(kept.get(3).pixels, np.full((3, 3), 3))
    kept.put(0, Decoded(np.zeros((1, 1), np.uint8), (1, 1)))
    assert kept.get(0).pixels.shape == (6, 6)


def photograph(side: int = 1024, **options) -> bytes:
    """A JPEG with the spectrum of photographs, about 1 / f in amplitude."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]) + 1 / side
    bands = [np.fft.irfft2(np.fft.rfft2(rng.standard_normal((side, side))) / frequency) for _ in range(3)]
    pixels = np.stack([(0.8 * bands[0] + 0.2 * band) for band in bands], -1)
    pixels = np.clip(128 + 45 * (pixels - pixels.mean()) / pixels.std(), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True, "subsampling": 0}])
def test_a_reduced_jpeg_is_the_whole_one_within_the_noise_of_rounding(options):
    encoded = photograph(**options)
    whole = Image.open(io.BytesIO(encoded)).convert("RGB")
    for resolution, factor in ((150, 1), (128, 2), (64, 4), (32, 8)):
        view_of = Framing(resolution, center_crop=True).view
        decoded = ImageReader().decode(encoded, 3, view_of)
        assert decoded.reduction == factor
        assert decoded.pixels.shape == (1024 // factor, 1024 // factor, 3)
        expected = np.asarray(whole.resize((resolution, resolution), Image.Resampling.LANCZOS))
        difference = np.abs(decoded.seen(view_of, DataRules()).astype(int) - expected)
        assert difference.mean() <= 0.5  # of a level; rounding twice costs 1/3
        old = ImageReader(DataRules(2)).decode(encoded, 3, view_of)
        assert np.array_equal(old.seen(view_of, DataRules(2)), expected)


def test_a_reduced_jpeg_is_turned_and_cut_as_the_whole_one():
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.open(io.BytesIO(photograph())).crop((0, 0, 1024, 700)).save(file, "JPEG", quality=95, exif=exif)
    for key in range(4):
        view_of = Framing(40, random_flip=True).keyed((key,))
        new, old = (ImageReader(DataRules(version)).decode(file.getvalue(), 3, view_of) for version in (3, 2))
        assert (new.reduction, new.size, old.size) == (4, (700, 1024), (700, 1024))
        difference = new.seen(view_of, DataRules()).astype(int) - old.seen(view_of, DataRules())
        assert np.abs(difference).mean() <= 0.5
