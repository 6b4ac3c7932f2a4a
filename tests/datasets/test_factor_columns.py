"""Factors of variation that data sets know, or hold in columns."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from vae_plugin.datasets import Circles, DataError, draw, find_factors, load_images

COLUMNS = {
    "x": [0.1, 0.9, 0.4],
    "angle": [0.0, 90.0, 370.0],
    "size": [1, 3, 1],
    "shape": ["square", "heart", "square"],
}


def images_in(folder, **more):
    return load_images(train_data_dir=folder, resolution=8, channels=3, **more)


def png(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, value, value)).save(path)


@pytest.fixture
def table(tmp_path):
    for i in range(3):
        png(tmp_path / f"{i}.png", i)
    pictures = [{"bytes": (tmp_path / f"{i}.png").read_bytes(), "path": None} for i in range(3)]
    (tmp_path / "table").mkdir()
    pq.write_table(pa.table({"image": pictures, **COLUMNS}), tmp_path / "table" / "train.parquet")
    return images_in(tmp_path / "table")


def folder_of(tmp_path, write):
    rows = [{"file_name": name, **{key: values[i] for key, values in COLUMNS.items()}}
            for i, name in enumerate(("b/1.png", "a.png", "b/c/2.png"))]  # fmt: skip
    for i, row in enumerate(rows):
        png(tmp_path / row["file_name"], i)
    write(tmp_path, rows)
    return images_in(tmp_path)


def csv_of(folder, rows):
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    (folder / "metadata.csv").write_text("\n".join(lines))


def jsonl_of(folder, rows):
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))


def parquet_of(folder, rows):
    pq.write_table(pa.Table.from_pylist(rows), folder / "metadata.parquet")


def test_circles_know_their_factors():
    circles = Circles(5, 8, channels=3, hue=True)
    found = find_factors(circles)
    assert found.names == ("x", "y", "radius", "hue")
    assert found.kinds == ("continuous",) * 3 + ("periodic",)
    torch.testing.assert_close(found.values, circles.factors.double())
    drawn = draw(circles, 2, seed=0)
    torch.testing.assert_close(find_factors(drawn).values, circles.factors[drawn.indices].double())
    assert find_factors(Circles(1, 8)).varying().names == ()


def test_columns_of_a_table(table):
    found = find_factors(table, ["shape", "x", "angle", "size"], {"angle": 360.0})
    assert found.names == ("shape", "x", "angle", "size")
    assert found.kinds == ("categorical", "continuous", "periodic", "categorical")
    expected = [[1, 0.1, 0, 1], [0, 0.9, 0.25, 3], [1, 0.4, 370 / 360, 1]]
    np.testing.assert_allclose(found.values, expected)


@pytest.mark.parametrize("write", [csv_of, jsonl_of, parquet_of])
def test_metadata_beside_images(tmp_path, write):
    images = folder_of(tmp_path, write)
    found = find_factors(images, list(COLUMNS), {"angle": 360.0})
    assert found.kinds == ("continuous", "periodic", "categorical", "categorical")
    # in the order of the images, which is that of their names within each folder
    shade = [round((images[i]["pixel_values"].mean().item() + 1) * 127.5) for i in range(3)]
    assert sorted(shade) == [0, 1, 2]
    np.testing.assert_allclose(found.values[:, 0], [COLUMNS["x"][i] for i in shade])


@pytest.mark.parametrize(
    ("columns", "periods", "words"),
    [
        (["X"], {}, "did you mean 'x'"),
        (["zebra"], {}, "has x, angle, size, shape beside the images"),
        (["image"], {}, "no column 'image'"),
        (["x"], {"angle": 1.0}, "'angle' has a period, but is not among"),
        (["shape"], {"shape": 2.0}, "holds names, which have no period"),
        ([], {}, "name the columns"),
    ],
)
def test_columns_that_are_no_factors(table, columns, periods, words):
    with pytest.raises(DataError, match=words):
        find_factors(table, columns, periods)


def test_metadata_that_does_not_serve(tmp_path):
    def without_last(folder, rows):
        csv_of(folder, rows[:2])

    images = folder_of(tmp_path, without_last)
    with pytest.raises(DataError, match=r"no row for b/c/2\.png"):
        find_factors(images, ["x"])
    (tmp_path / "b" / "metadata.csv").write_text("file_name,x\n1.png,5\nc/2.png,\n")
    with pytest.raises(DataError, match=r"'x' has no value for 1 image\(s\), such as b/c/2\.png"):
        find_factors(images, ["x"])
    (tmp_path / "b" / "c" / "metadata.csv").write_text("name,x\n1.png,5\n")
    with pytest.raises(DataError, match="cannot be read as metadata"):
        find_factors(images, ["x"])
