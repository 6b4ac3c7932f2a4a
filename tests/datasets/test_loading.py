"""Folders, archives and data sets in the Hub's layout, as found in practice."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from zipfile import ZipFile

import datasets
import pytest
import torch

from support.gray_images import encoded, grays, write_images, write_parquet
from support.hostile_images import png_of_size
from vae_plugin import notices
from vae_plugin.datasets import DataError, DataRules, ImageDataset, load_images, stream_images
from vae_plugin.datasets.files import file_in, walk


def test_a_folder_of_folders(tmp_path, load):
    write_images(tmp_path, "b/c/2.png", "a.JPG", "a/train.png", "train station.jpg", "brackets [1] *.png")
    assert sorted(grays(load(tmp_path))) == [1, 2, 3, 4, 5]
    assert grays(load(tmp_path)) == grays(load(str(tmp_path)))


def test_files_that_are_not_images_are_listed(tmp_path, load):
    write_images(tmp_path, "a.png", ".hidden.png", ".cache/b.png")
    for name in ("notes.txt", "deeper/labels.csv", ".DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    images = load(tmp_path)
    assert grays(images) == [1]
    assert set(images.origin.ignored_files) == {str(tmp_path / "notes.txt"), str(tmp_path / "deeper/labels.csv")}


def test_files_are_in_the_order_of_their_paths(tmp_path):
    names = ["b", "b/a.png", "b.png", "b-c/a.png", "a.PNG", "B/a.png", "b/a/z.png", "b/a-b.png", "é.png", "a b.png"]
    for name in names[1:]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert walk(tmp_path) == [path.as_posix() for path in files]
    assert [file_in(tmp_path, name) for name in walk(tmp_path)] == [str(tmp_path / path) for path in files]


def test_linked_folders_are_followed_once(tmp_path, load):
    write_images(tmp_path, "elsewhere/a.png")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    assert grays(load(folder)) == [1]


def test_splits_are_folders(tmp_path, load):
    write_images(tmp_path, "train/x/a.png", "train/b.png", "val/c.png")
    (tmp_path / "README.md").write_text("text")
    assert grays(load(tmp_path)) == [2, 1]
    assert grays(load(tmp_path, split="validation")) == grays(load(tmp_path, split="val")) == [3]
    assert grays(load(tmp_path / "val")) == [3]
    with pytest.raises(DataError, match="no split 'test': give one of train, validation"):
        load(tmp_path, split="test")


def test_a_folder_without_splits_is_train(tmp_path, load):
    write_images(tmp_path, "cats/a.png")
    with pytest.raises(DataError, match="no split 'test': give one of train"):
        load(tmp_path, split="test")


def test_images_beside_splits_are_not_silently_left_out(tmp_path, load):
    write_images(tmp_path, "train/a.png", "boat/b.png")
    with pytest.raises(DataError, match=r"boat.b\.png"):
        load(tmp_path)


def test_paths_without_images(tmp_path, load):
    with pytest.raises(DataError, match="does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no image file"):
        load(tmp_path)
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match="no image file"):
        load(tmp_path)
    with pytest.raises(DataError, match="not a parquet or tar file"):
        load(tmp_path / "a.txt")
    (tmp_path / "a.jpg").write_text("text")
    with pytest.raises(DataError, match="none of the 1"):
        load(tmp_path)


def test_both_kinds_in_one_folder_are_refused(tmp_path, load):
    write_images(tmp_path, "a.png")
    write_parquet(tmp_path / "b.parquet", [1])
    with pytest.raises(DataError, match="one kind"):
        load(tmp_path)


def write_tar(path: Path, members: dict[str, int]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, gray in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(encoded(gray))
            archive.addfile(info, io.BytesIO(encoded(gray)))


def test_names_of_archives_and_of_what_is_in_them(tmp_path, load):
    members = {"1.png": 1, "._1.png": 9, "2.PNG": 2, os.fsdecode(b"\xff.png"): 3, "x/._3.png": 9}
    for name in ("A.TAR", os.fsdecode(b"\xfe.tar")):
        write_tar(tmp_path / name, members)
    images = load(tmp_path)
    assert sorted(grays(images)) == [1, 1, 2, 2, 3, 3]
    assert all(images[i]["unreadable"] == () for i in range(6))


@pytest.mark.parametrize("name", ["a.tar", "a.parquet"])
def test_a_pipe_that_is_called_a_shard_is_refused_at_once(tmp_path, load, name):
    os.mkfifo(tmp_path / name)
    for read in (load, lambda folder: stream_images(train_data_dir=folder, resolution=8, channels=1)):
        with pytest.raises(DataError, match="is not a file but"):
            read(tmp_path)


def test_heic_is_named_where_it_cannot_be_read(tmp_path, load, capsys, monkeypatch):
    monkeypatch.setattr(notices, "_said", bytearray(1 << 16))
    monkeypatch.setattr("vae_plugin.datasets.files.HEIC_ENDINGS", frozenset({".heic-too"}))
    write_images(tmp_path, "a.png", "b.HEIC-too", "c.heic-too")
    assert grays(load(tmp_path)) == [1]
    assert f"2 HEIC file(s) in {tmp_path} are left out" in capsys.readouterr().err


def test_what_cannot_be_used_is_counted_by_reason_at_the_start(tmp_path, load, capsys, monkeypatch):
    monkeypatch.setattr(notices, "_said", bytearray(1 << 16))
    write_images(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "e.jpg").write_text("text")
    (tmp_path / "f.jpg").write_text("text")
    (tmp_path / "g.png").write_bytes(png_of_size(60_000, 60_000))
    (tmp_path / "h.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "i.png")
    load(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"note: 3 of 8 images in {tmp_path} can be used; left out are 2 like {tmp_path / 'e.jpg'} (it"
    )
    for name in "ghi":
        assert f"1 like {tmp_path / name}.png (" in line


def test_loading_shows_no_progress_and_leaves_the_setting(tmp_path, load, capfd):
    write_parquet(tmp_path / "a.parquet", [1])
    load(tmp_path)
    assert capfd.readouterr().err == ""
    assert not datasets.utils.are_progress_bars_disabled()


def load_by_name(path: Path, **options) -> ImageDataset:
    # `datasets` opens a folder in the Hub's layout by the code that opens a data set on the Hub.
    return load_images(dataset_name=str(path), cache_dir=path.parent / "cache", resolution=8, channels=1, **options)


def test_a_data_set_by_its_name(tmp_path):
    path = tmp_path / "owner"
    write_parquet(path / "data" / "train-00000-of-00001.parquet", [1, 2])
    write_parquet(path / "data" / "test-00000-of-00001.parquet", [3])
    assert grays(load_by_name(path)) == [1, 2]
    assert grays(load_by_name(path, split="test")) == [3]
    with pytest.raises(DataError, match=r"'validation'.*test, train"):
        load_by_name(path, split="validation")


def test_a_local_folder_is_read_alike_by_name_and_by_path(tmp_path, load):
    """`datasets` would take these three names for the split "train", and the others for none."""
    path = tmp_path / "owner"
    write_images(path, "train station.png", "the train.png", "train-2.png", *(f"{i}.png" for i in range(9)))
    assert grays(load_by_name(path)) == grays(load(path))
    assert len(load_by_name(path)) == 12
    assert len(load_by_name(path, rules=DataRules(1))) == 3


def test_a_card_that_declares_its_files_is_believed(tmp_path):
    path = tmp_path / "owner"
    write_images(path, "some/a.png", "others/b.png", "others/c.png")
    declared = "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: others/*.png"
    (path / "README.md").write_text(f"---\n{declared}\n---\nText\n")
    assert grays(load_by_name(path)) == [2, 3]


def test_declared_tar_files_are_streamed_by_the_rules_of_others(tmp_path):
    """As those on the Hub are: mixed endings, and a name that does not depend on the place."""
    path = tmp_path / "owner"
    (path / "data").mkdir(parents=True)
    write_tar(path / "data" / "a.tar", {"1.png": 1, "2.PNG": 2, "._2.png": 9})
    (path / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: data/*.tar\n---\nText\n")
    images = stream_images(dataset_name=str(path), resolution=8, channels=1, num_validation=5)
    assert grays(images.validation()) == [1, 2]
    assert list(images.held_out_contents()) == ["data/a.tar::1.png", "data/a.tar::2.PNG"]


def test_a_configuration_of_a_data_set(tmp_path):
    path = tmp_path / "owner"
    write_images(path, "some/a.png", "others/b.png", "others/c.png")
    files = "\n".join(f"- config_name: {name}\n  data_files: {name}/*.png" for name in ("some", "others"))
    (path / "README.md").write_text(f"---\nconfigs:\n{files}\n---\nText\n")
    assert grays(load_by_name(path, config_name="others")) == [2, 3]
    assert grays(load_by_name(path, config_name="some")) == [1]
    for wrong in ({}, {"config_name": "third"}):
        with pytest.raises(DataError, match=r"some.*others"):
            load_by_name(path, **wrong)


@pytest.mark.parametrize("kind", ["images", "parquet", "tar", "streamed parquet", "streamed tar"])
def test_several_folders_are_one_data_set(tmp_path, load, kind):
    folders = [tmp_path / name for name in "ab"]
    for first, folder in zip((1, 4), folders, strict=True):
        folder.mkdir()
        if kind == "images":
            for i in range(first, first + 3):
                (folder / f"{i}.png").write_bytes(encoded(i))
        elif "tar" in kind:
            write_tar(folder / "same.tar", {f"{i}.png": i for i in range(first, first + 3)})
        else:
            write_parquet(folder / "same.parquet", list(range(first, first + 3)))
    if "streamed" in kind:
        images = stream_images(train_data_dir=folders, resolution=8, channels=1)
        assert len(set(images.shards.names)) == images.num_shards == 2
        assert sorted(grays(images.first(6))) == [1, 2, 3, 4, 5, 6]
    else:
        images = load(folders)
        assert grays(images) == [1, 2, 3, 4, 5, 6]
        assert len(set(images.origin.sample_names())) == 6
    with pytest.raises(DataError, match=r"b does not exist"):
        load([tmp_path / "a", tmp_path / "nowhere" / "b"])


def test_folders_of_several_kinds_are_refused(tmp_path, load):
    write_images(tmp_path / "a", "1.png")
    write_parquet(tmp_path / "b" / "1.parquet", [1])
    with pytest.raises(DataError, match=r"a holds images and .*b parquet files: give folders with one kind of file"):
        load([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize(
    "paths", [("a", "a"), ("a", "link"), ("a/b", "a"), ("a", "c", "a/b/../../a/b/"), ("t.tar", ".")]
)
def test_overlapping_folders_are_refused(tmp_path, load, paths):
    write_images(tmp_path, "a/1.png", "a/b/2.png", "c/3.png")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    write_tar(tmp_path / "t.tar", {"1.png": 1})
    with pytest.raises(DataError, match=r"lies in .*, or is the same: give folders of data that do not overlap"):
        load([f"{tmp_path}/{path}" for path in paths])
    assert grays(load([tmp_path / "a" / "b", tmp_path / "c"])) == [2, 3]


def test_an_empty_list_of_folders_is_refused(load):
    with pytest.raises(DataError, match="empty: give at least one folder or shard"):
        load([])


def test_a_data_set_of_image_files_by_its_name(tmp_path):
    path = tmp_path / "owner"
    write_images(path, "train/a.png", "train/b.png")
    (path / "train" / "c.png").write_text("text")
    images = load_by_name(path)
    assert [images[i]["unreadable"] for i in range(2)] == [(), ()]
    assert images[2]["unreadable"][0].endswith("c.png")


def test_a_data_set_in_an_archive_by_its_name(tmp_path):
    path = tmp_path / "owner"
    path.mkdir()
    with ZipFile(path / "train.zip", "w") as archive:
        archive.writestr("a.png", encoded(1))
        archive.writestr("b.png", encoded(2))
        archive.writestr("c.png", b"text")
    images = load_by_name(path)
    assert grays(images) == [1, 2, 1]
    assert "c.png" in images[2]["unreadable"][0]


def test_one_source_must_be_given(tmp_path):
    for given, sources in {"neither": {}, "both": {"dataset_name": "a/b", "train_data_dir": tmp_path}}.items():
        with pytest.raises(DataError, match=f"got {given} of .*: give either"):
            load_images(resolution=8, channels=1, **sources)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels(tmp_path, load, channels):
    write_images(tmp_path, "a.png")
    x = load(tmp_path, channels=channels)[0]["pixel_values"]
    assert x.shape == (channels, 8, 8)
    assert torch.equal(x[:3], torch.full((min(channels, 3), 8, 8), 1 / 127.5 - 1))
