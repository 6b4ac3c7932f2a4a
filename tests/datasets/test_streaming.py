"""Shards read in order: every image once an epoch, whatever the number of processes, and resumed exactly."""

import io
import tarfile
from collections import Counter
from itertools import islice

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from vae_plugin.datasets import DataError, load_images, stream_images

SIZES = (7, 12, 9, 5, 8)  # number of images in each shard


def encoded(number):
    """Encode an image whose colour is its number."""
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_tars(folder, sizes=SIZES, damaged=()):
    number = 0
    for shard, size in enumerate(sizes):
        with tarfile.open(folder / f"data-{shard:05d}.tar", "w") as archive:
            for _ in range(size):
                for ending, content in (("png", encoded(number)), ("json", b"{}")):
                    content = b"no image" if number in damaged and ending == "png" else content
                    info = tarfile.TarInfo(f"{number:06d}.{ending}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
                number += 1


def write_parquet(folder, sizes=SIZES):
    number = 0
    for shard, size in enumerate(sizes):
        values = [{"bytes": encoded(number + i), "path": None} for i in range(size)]
        number += size
        features = datasets.Features({"image": datasets.Image()})
        table = datasets.Dataset.from_dict({"image": values}, features)
        table.to_parquet(folder / f"train-{shard:05d}-of-{len(sizes):05d}.parquet")


@pytest.fixture(params=["tar", "parquet"])
def folder(request, tmp_path):
    (write_tars if request.param == "tar" else write_parquet)(tmp_path)
    return tmp_path


def numbers(batch):
    """Numbers of the images in a batch, read from their colour."""
    return ((batch["pixel_values"][:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def stream(folder, **changes):
    settings = {"resolution": 8, "channels": 3, "shuffle_window": 16, "num_validation": 3}
    return stream_images(train_data_dir=folder, **{**settings, **changes})


def test_every_image_comes_once_before_any_comes_again(folder):
    images = stream(folder, num_validation=0)
    assert (images.num_shards, images.lanes) == (5, 4)
    epochs = [Counter() for _ in range(4)]
    for batch in islice(images.batches(4), 40):
        for lane, number in enumerate(numbers(batch)):
            assert batch["images"][lane] % 4 == lane
            epochs[lane][number] += 1
    # A lane with fewer images starts its next epoch earlier; together the lanes have seen all images.
    assert sum(epochs, Counter()).keys() == set(range(sum(SIZES)))
    first = Counter()
    for lane in range(4):
        for window, (epoch, _, _) in images._lane_samples(lane):
            if epoch:
                break
            first[window[0]["bytes"]] += 1
    assert set(first.values()) == {1}
    assert len(first) == sum(SIZES)


def test_held_out_images_are_not_trained_on(folder):
    images = stream(folder)
    held_out = {numbers({"pixel_values": item["pixel_values"][None]})[0] for item in images.validation()}
    assert held_out == {0, 1, 2}
    seen = {number for batch in islice(images.batches(4), 60) for number in numbers(batch)}
    assert seen == set(range(3, sum(SIZES)))
    assert len(images.first(10)) == 10


@pytest.mark.parametrize(("processes", "batch_size", "own"), [(2, 4, 2), (4, 1, 1), (4, 3, 1), (3, 4, 4), (2, 3, 4)])
def test_the_number_of_processes_changes_nothing(folder, processes, batch_size, own):
    together = processes * batch_size
    alone = list(islice(stream(folder).batches(together), 9))
    ranks = [
        list(islice(stream(folder).batches(batch_size, rank=rank, num_processes=processes), 9))
        for rank in range(processes)
    ]
    assert all(len(stream(folder).own_lanes(batch_size, rank, processes)) == own for rank in range(processes))
    for expected, parts in zip(alone, zip(*ranks, strict=True), strict=True):
        assert all(len(part["images"]) == batch_size for part in parts)
        images = {n: x for part in parts for n, x in zip(part["images"], part["pixel_values"], strict=True)}
        assert sorted(images) == expected["images"]
        for n, x in zip(expected["images"], expected["pixel_values"], strict=True):
            assert torch.equal(images[n], x)


@pytest.mark.parametrize("done", [1, 3, 4, 11])
@pytest.mark.parametrize("processes", [1, 2])
def test_it_resumes_exactly_with_another_number_of_processes(folder, done, processes):
    whole = list(islice(stream(folder).batches(4), done + 6))
    before = [list(islice(stream(folder).batches(2, rank=r, num_processes=2), done)) for r in range(2)]
    positions = {lane: place for part in before for lane, place in part[-1]["positions"].items()}
    settings = {"first_image": 4 * done, "positions": positions, "num_processes": processes}
    parts = [list(islice(stream(folder).batches(4 // processes, rank=r, **settings), 6)) for r in range(processes)]
    for expected, batches in zip(whole[done:], zip(*parts, strict=True), strict=True):
        found = {n: x for batch in batches for n, x in zip(batch["images"], numbers(batch), strict=True)}
        assert found == dict(zip(expected["images"], numbers(expected), strict=True))


def test_windows_are_shuffled_and_epochs_differ(folder):
    images = stream(folder, num_validation=0)
    lanes = [[], []]
    for window, (epoch, _, _) in images._lane_samples(0):
        if epoch == 2:
            break
        lanes[epoch].append(window[0]["bytes"])
    assert lanes[0] != lanes[1]
    in_order = [encoded(n) for n in range(sum(SIZES))]
    assert lanes[0] != [b for b in in_order if b in lanes[0]]


def test_a_damaged_image_is_replaced_by_another_of_its_window(tmp_path):
    write_tars(tmp_path, damaged=(20,))
    seen, unreadable = Counter(), []
    for batch in islice(stream(tmp_path, num_validation=0).batches(4), 30):
        seen.update(numbers(batch))
        unreadable += batch["unreadable"]
    assert 20 not in seen
    assert unreadable
    assert all("000020.png" in name for name in unreadable)


def test_tars_at_random(tmp_path):
    write_tars(tmp_path, damaged=(4,))
    images = load_images(train_data_dir=tmp_path, resolution=8, channels=3)
    assert len(images) == sum(SIZES)
    shown = [numbers({"pixel_values": images[i]["pixel_values"][None]})[0] for i in range(sum(SIZES))]
    assert shown == [5 if i == 4 else i for i in range(sum(SIZES))]
    assert "000004.png" in images[4]["unreadable"][0]


def test_tars_whose_samples_have_two_images(tmp_path):
    with tarfile.open(tmp_path / "pairs.tar", "w") as archive:
        for i in range(3):
            for ending, number in (("input.png", i), ("target.png", 100 + i)):
                info = tarfile.TarInfo(f"{i}.{ending}")
                content = encoded(number)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    with pytest.raises(DataError, match=r"input\.png, target\.png: choose one with image_column"):
        load_images(train_data_dir=tmp_path, resolution=8, channels=3)
    images = load_images(train_data_dir=tmp_path, resolution=8, channels=3, image_column="target.png")
    assert [numbers({"pixel_values": images[i]["pixel_values"][None]})[0] for i in range(3)] == [100, 101, 102]


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda folder: (folder / "a.tar").write_bytes(b"no tar file"), "cannot be read as an uncompressed tar"),
        (lambda folder: tarfile.open(folder / "a.tar", "w").close(), "hold no images"),
    ],
)
def test_an_unusable_tar_file(write, words, tmp_path):
    write(tmp_path)
    with pytest.raises(DataError, match=words):
        load_images(train_data_dir=tmp_path, resolution=8, channels=3)


def test_image_files_are_not_streamed(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="leave out --streaming"):
        stream(tmp_path)


def test_nothing_left_to_train_on(tmp_path):
    write_tars(tmp_path, sizes=(3,))
    with pytest.raises(DataError, match="no image left"):
        next(stream(tmp_path).batches(2))


@pytest.mark.parametrize("where", ["cut", "pages", "no parquet at all"])
@pytest.mark.parametrize("shard", [0, 2])
def test_a_damaged_parquet_shard_is_named_and_the_others_are_read(tmp_path, where, shard, capfd, monkeypatch):
    monkeypatch.setattr("vae_plugin.notices._said", bytearray(1 << 16))
    write_parquet(tmp_path)
    path = tmp_path / f"train-{shard:05d}-of-00005.parquet"
    content = path.read_bytes()
    cut = {"cut": content[: len(content) // 2], "pages": content[:4] + b"\xff" * 300 + content[304:]}
    path.write_bytes(cut.get(where, b"text"))
    images = stream(tmp_path, num_validation=0)
    seen, lost = set(), 0
    for batch in islice(images.batches(4), 40):
        seen.update(numbers(batch))
        lost += batch["lost"]
    first = sum(SIZES[:shard])
    assert seen == set(range(sum(SIZES))) - set(range(first, first + SIZES[shard]))
    assert lost == (SIZES[shard] if where == "pages" else 1)
    assert capfd.readouterr().err.count(f"{path.name} in {tmp_path} is damaged: it cannot be read behind 0 im") == 1


def test_a_parquet_shard_without_rows_is_not_damaged(tmp_path, capfd):
    write_parquet(tmp_path, (3, 0, 4))
    images = stream(tmp_path, num_validation=0)
    batches = list(islice(images.batches(4), 6))
    assert {number for batch in batches for number in numbers(batch)} == set(range(7))
    assert not any(batch["lost"] for batch in batches)
    assert "damaged" not in capfd.readouterr().err
