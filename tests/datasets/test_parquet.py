"""Parquet files as data sets: shards, types of columns, metadata."""

from __future__ import annotations

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from support.gray_images import encoded, grays, write_images, write_parquet
from vae_plugin.datasets import DataError, stream_images


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
