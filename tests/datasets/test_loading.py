"""Folders, parquet files and data sets in the Hub's layout, as found in practice."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from zipfile import ZipFile

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from support.hostile_images import png_of_size
from vae_plugin import notices
from vae_plugin.datasets import DataError, DataRules, ImageDataset, load_images, stream_images
from vae_plugin.datasets.files import file_in, walk
from vae_plugin.datasets.transforms import to_uint8


def encoded(gray: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (12, 10), (gray,) * 3).save(file, "PNG")
    return file.getvalue()


def write_images(root: Path, *names: str) -> None:
    """Write images whose gray value is their number, counted from 1."""
    for i, name in enumerate(names, 1):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(i))


def write_parquet(path: Path, grays: list[int], **columns: list) -> None:
    """Without the metadata of `datasets`: a struct of bytes and path, and a label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": encoded(gray), "path": f"{gray}.png"} for gray in grays]
    pq.write_table(pa.table({"image": rows, "label": list(range(len(grays))), **columns}), path)


@pytest.fixture
def load(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")

    def load(place: Path | str, **options) -> ImageDataset:
        return load_images(train_data_dir=place, cache_dir=cache, **{"resolution": 8, "channels": 1, **options})

    return load


def grays(images: ImageDataset) -> list[int]:
    return [int(to_uint8(images[i]["pixel_values"])[0, 0, 0]) for i in range(len(images))]


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


def test_parquet_shards_in_order(tmp_path, load):
    write_parquet(tmp_path / "data" / "train-00001-of-00002.parquet", [3, 4])
    write_parquet(tmp_path / "data" / "train-00000-of-00002.parquet", [1, 2])
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", [5])
    write_parquet(tmp_path / "data" / "extra_unlabelled-00000-of-00001.parquet", [6])
    (tmp_path / "README.md").write_text("text")
    images = load(tmp_path)
    assert grays(images) == [1, 2, 3, 4]
    assert images.origin.ignored_files == (str(tmp_path / "README.md"),)
    assert grays(load(tmp_path, split="test")) == [5]
    assert grays(load(tmp_path, split="extra_unlabelled")) == [6]
    with pytest.raises(DataError, match="extra_unlabelled, test, train"):
        load(tmp_path, split="validation")


def test_parquet_of_other_names(tmp_path, load):
    write_parquet(tmp_path / "a" / "mnist-test.parquet", [1])
    write_parquet(tmp_path / "a" / "train" / "0000.parquet", [2])
    write_parquet(tmp_path / "b [x]" / "photos*.parquet", [3])
    assert grays(load(tmp_path / "a", split="test")) == [1]
    assert grays(load(tmp_path / "a")) == [2]
    assert grays(load(tmp_path / "b [x]")) == [3]


def test_one_parquet_file(tmp_path, load):
    write_parquet(tmp_path / "test-00000-of-00001.parquet", [7, 8])
    assert grays(load(tmp_path / "test-00000-of-00001.parquet")) == [7, 8]
    assert grays(load(tmp_path / "test-00000-of-00001.parquet", split="test")) == [7, 8]
    with pytest.raises(DataError, match="give one of test, train"):
        load(tmp_path / "test-00000-of-00001.parquet", split="validation")


def test_a_changed_parquet_file_is_read_again(tmp_path, load):
    write_parquet(tmp_path / "a.parquet", [1])
    assert grays(load(tmp_path)) == [1]
    write_parquet(tmp_path / "a.parquet", [2, 3])
    assert grays(load(tmp_path)) == [2, 3]


def test_damaged_rows_are_named_by_shard(tmp_path, load):
    for name, broken in (("train-00000-of-00002", 0), ("train-00001-of-00002", 1)):
        rows = [{"bytes": b"no image" if i == broken else encoded(9)} for i in range(3)]
        pq.write_table(pa.table({"image": rows}), tmp_path / f"{name}.parquet")
    images = load(tmp_path)
    names = [name for i in range(6) for name in images[i]["unreadable"]]
    assert names == ["row 0 of train-00000-of-00002.parquet", "row 1 of train-00001-of-00002.parquet"]


def test_a_damaged_parquet_file_is_named(tmp_path, load):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(DataError, match=r"a\.parquet cannot be read"):
        load(tmp_path)


def test_parquet_without_rows(tmp_path, load):
    pq.write_table(pa.table({"image": pa.array([], pa.struct({"bytes": pa.binary()}))}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no row"):
        load(tmp_path)


def test_parquet_written_by_datasets(tmp_path, load):
    table = datasets.Dataset.from_dict({"picture": [Image.new("L", (9, 9), 5)]}).cast_column(
        "picture", datasets.Image()
    )
    table.to_parquet(tmp_path / "a.parquet")
    assert grays(load(tmp_path)) == [5]


def test_which_column(tmp_path, load):
    images = [{"bytes": encoded(3)}]
    pq.write_table(
        pa.table({"a": images, "b": [{"bytes": encoded(4)}], "raw": [encoded(5)], "n": [1]}), tmp_path / "t.parquet"
    )
    with pytest.raises(DataError, match=r"columns a, b, raw, n, .*several hold images \(a, b\)"):
        load(tmp_path)
    assert grays(load(tmp_path, image_column="b")) == [4]
    assert grays(load(tmp_path, image_column="raw")) == [5]
    with pytest.raises(DataError, match=r"'c'.*a, b, raw, n"):
        load(tmp_path, image_column="c")
    with pytest.raises(DataError, match="'n' holds"):
        load(tmp_path, image_column="n")
    pq.write_table(pa.table({"raw": ["a.png"], "n": [1]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="columns raw, n, of which none"):
        load(tmp_path)


BYTES = [pa.binary(), pa.large_binary(), pa.binary_view()]
NAMES = [pa.string(), pa.large_string(), pa.string_view()]
STRUCTS = [pa.struct([("path", text), ("bytes", binary)]) for binary, text in zip(BYTES, NAMES, strict=True)]


@pytest.mark.parametrize("kind", [*BYTES, *NAMES, *STRUCTS, pa.struct([("bytes", pa.binary())])], ids=str)
def test_every_type_of_a_column(tmp_path, load, kind):
    write_images(tmp_path, "pictures/a.png", "pictures/b.png")
    names = ["pictures/a.png", "pictures/b.png", None]
    rows = names if kind in NAMES else [encoded(1), encoded(2), None]
    if isinstance(kind, pa.StructType):
        rows = [{"bytes": row, "path": None} for row in rows]
    pq.write_table(pa.table({"a": pa.array(rows, kind), "n": [0, 1, 2]}), tmp_path / "t.parquet")
    column = "a" if kind in NAMES else None  # of text it has to be said
    images = load(tmp_path / "t.parquet", image_column=column)
    assert grays(images)[:2] == [1, 2]
    assert images[2]["unreadable"] == ("row 2 of t.parquet",)
    stream = stream_images(
        train_data_dir=tmp_path / "t.parquet", image_column=column, resolution=8, channels=1, num_validation=2
    )
    assert grays(stream.validation()) == [1, 2]


def test_the_table_that_describes_images_is_no_shard(tmp_path, load):
    write_images(tmp_path, "a.png", "._a.png", "x/._b.png")
    write_parquet(tmp_path / "metadata.parquet", [7])
    images = load(tmp_path)
    assert grays(images) == [1]
    assert images.origin.ignored_files == (str(tmp_path / "metadata.parquet"),)
    assert grays(load(tmp_path / "metadata.parquet")) == [7]


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


METADATA_OF_DATASETS = [
    b"{no JSON",
    b"5",
    b"null",
    b"[" * 10_000,
    b"\xff\xfe",
    b'{"info": null}',
    *(b'{"info": {"features": %s}}' % features for features in (b"[]", b"5", b'{"image": 5}')),
    *(b'{"info": {"features": {"image": {"_type": %s}}}}' % kind for kind in (b'"Other"', b'"Value"', b"[]")),
]


@pytest.mark.parametrize("metadata", METADATA_OF_DATASETS, ids=lambda metadata: metadata[:60].decode("latin-1"))
@pytest.mark.parametrize("streamed", [False, True])
def test_what_a_parquet_file_says_of_its_columns_may_be_anything(tmp_path, load, metadata, streamed):
    write_parquet(tmp_path / "1.parquet", [1])
    table = pq.read_table(tmp_path / "1.parquet").replace_schema_metadata({b"huggingface": metadata})
    pq.write_table(table, tmp_path / "1.parquet")
    with pytest.raises(DataError, match=r"cannot be loaded as a data set: ."):
        stream_images(train_data_dir=tmp_path, resolution=8, channels=1) if streamed else load(tmp_path)


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
