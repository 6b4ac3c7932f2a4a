"""Images in .npy and .npz, against numpy; what is hostile is one sentence, before anything is decoded."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from vae_plugin.datasets import DataError, DataRules, load_images
from vae_plugin.datasets.arrays import ArrayFile, channel_axis, to_npy
from vae_plugin.datasets.rasters import Raster

TYPES = ["|u1", "<u2", ">u2", "<i2", ">i4", "<u4", "<f2", ">f4", "<f8", "|b1", "|i1"]


def saved(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def read(encoded, channels):
    return ArrayFile(io.BytesIO(encoded)).raster(channels)


def numbers(seed, dtype, shape):
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype).kind
    values = rng.normal(size=shape) * 100 if kind == "f" else rng.integers(0, 2 if kind == "b" else 100, shape)
    return values.astype(dtype)


@pytest.mark.parametrize("seed", range(40))
def test_arrays_of_any_type_order_and_layout_are_what_numpy_has(seed):
    rng = np.random.default_rng(seed)
    channels = int(rng.choice([1, 2, 5, 12]))
    height, width = rng.integers(13, 20, 2)
    image = numbers(seed, TYPES[seed % len(TYPES)], (height, width, channels))
    stored = image if rng.random() < 0.5 else np.moveaxis(image, -1, 0)
    if channels == 1 and rng.random() < 0.5:
        stored = image[..., 0]
    stored = np.asfortranarray(stored) if rng.random() < 0.5 else np.ascontiguousarray(stored)
    if rng.random() < 0.5:
        encoded = saved(stored)
    else:
        stream = io.BytesIO()
        (np.savez_compressed if rng.random() < 0.5 else np.savez)(stream, some=stored)
        encoded = stream.getvalue()
    file = ArrayFile(io.BytesIO(encoded))
    assert file.size(channels) == (width, height)
    raster = file.raster(channels)
    assert np.array_equal(raster.bands, image)
    assert raster.bands.dtype.isnative

    low, high = (-300.0, 300.0) if image.dtype.kind == "f" else (0.0, 100.0)
    scaled, clipped = raster.scaled(channels, (low, high))
    expected = (image.astype(np.float64) - low) / (high - low) * 2 - 1
    assert scaled.dtype == np.float32
    assert np.allclose(scaled, expected.clip(-1, 1), atol=1e-6)
    assert clipped == bool((abs(expected) > 1).any())


@pytest.mark.parametrize(
    ("shape", "channels", "axis"),
    [((9, 8), 1, None), ((9, 8), 3, None), ((1, 9, 8), 1, 0), ((9, 8, 1), 3, 2), ((5, 9, 8), 5, 0), ((9, 8, 5), 5, 2),
     ((3, 9, 8), 3, 0), ((9, 5, 8), 8, 2), ((1, 9, 3), 3, 2)],
)  # fmt: skip
def test_the_channels_are_the_axis_with_as_many_as_the_model(shape, channels, axis):
    assert channel_axis(shape, channels) == axis


@pytest.mark.parametrize(
    ("shape", "channels", "words"),
    [
        ((5, 9, 5), 5, "could both be the 5 channel"),
        ((1, 9, 1), 1, "could both be the 1 channel"),
        ((3, 3, 3), 3, "could both"),
        ((5, 9, 8), 3, "neither its first nor its last axis has the 3 channel"),
        ((4, 9, 8), 3, "neither its first nor its last"),
        ((9, 8), 5, "it has 1 band"),
        ((9,), 1, "neither (H, W)"),
        ((), 1, "neither (H, W)"),
        ((2, 9, 8, 3), 3, "several images belong into one file each"),
        ((0, 9, 3), 3, "no pixels"),
    ],
)
def test_shapes_of_no_image_and_of_two_are_refused(shape, channels, words):
    with pytest.raises(DataError) as failure:
        channel_axis(shape, channels)
    assert words in str(failure.value)


class Mark:
    """Something whose unpickling would be noticed."""

    opened = False

    def __reduce__(self):
        return (setattr, (Mark, "opened", True))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([[1j]]), "complex128"),
        (np.zeros((4, 4), [("a", "u1")]), "integers or floats"),
        (np.array([["a"]]), "integers or floats"),
        (np.zeros((4, 4), "M8[s]"), "datetime64"),
        (np.array([[Mark()]], object), "Python objects, which are not opened"),
    ],
)
def test_what_is_no_number_is_refused_and_nothing_is_unpickled(array, words):
    with pytest.raises(DataError, match=words):
        read(saved(array, allow_pickle=True), 1)
    assert not Mark.opened


def header(text):
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "encoded",
    [
        b"\x93NUMPY",
        b"\x93NUMPY\1\0",
        b"\x93NUMPY\3\0" + bytes(8),
        b"\x93NUMPY\7\0" + bytes(8),
        header(b"{"),
        header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 4)}\n") + bytes(64),
        header(b"{'descr': '<f4', 'fortran_order': False}\n"),
        header(b"__import__('os')\n"),
        b"\x93NUMPY\1\0" + pickle.dumps([1]),
        saved(np.zeros((4, 4)))[:-1],
        b"PK\3\4 and no archive",
    ],
)
def test_damaged_arrays_are_one_error(encoded):
    with pytest.raises(DataError) as failure:
        read(encoded, 1)
    assert "\n" not in str(failure.value)


def test_a_header_may_claim_any_size_and_nothing_is_read_for_it():
    file = ArrayFile(io.BytesIO(header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (900000, 900000)}\n")))
    assert file.size(1) == (900_000, 900_000)
    assert file.num_bytes == 8 * 900_000**2


def test_an_archive_has_one_array_or_one_that_is_named_image():
    stream = io.BytesIO()
    np.savez(stream, image=np.full((4, 5), 7), mask=np.zeros((4, 5)))
    assert (read(stream.getvalue(), 1).bands == 7).all()
    stream = io.BytesIO()
    np.savez(stream, a=np.zeros((4, 5)), b=np.zeros((4, 5)))
    with pytest.raises(DataError, match="arrays a, b: save one"):
        read(stream.getvalue(), 1)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w"):
        pass
    with pytest.raises(DataError, match="it holds no array"):
        read(stream.getvalue(), 1)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_an_archive_that_is_cut_is_said_to_be(share):
    stream = io.BytesIO()
    np.savez_compressed(stream, image=numbers(0, "<f4", (40, 50)))
    encoded = stream.getvalue()
    with pytest.raises(DataError, match=r"it is cut or damaged: the list of its arrays"):
        read(encoded[: int(len(encoded) * share)], 1)


def test_arrays_beside_image_files_are_images_where_their_bands_are_those_of_the_model(tmp_path, capsys):
    rgb = numbers(0, "|u1", (20, 30, 3))
    for name in ("a.png", "b/mask of.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rgb).save(tmp_path / name)
    for name, array in {
        "c.npy": rgb,
        "b/d.npy": numbers(1, "<u2", (3, 20, 30)),
        "a.npy": rgb,  # of the image of its name
        "gray.npy": rgb[..., 0],
        "floats.npy": numbers(2, "<f4", (20, 30, 3)),
        "labels.npy": np.arange(3),
    }.items():
        np.save(tmp_path / name, array)
    np.savez(tmp_path / "several.npz", a=rgb, b=rgb)
    (tmp_path / "damaged.npz").write_bytes(b"PK\3\4")

    def found(**options):
        return sorted(load_images(train_data_dir=tmp_path, channels=3, resolution=8, **options).origin.names)

    assert found() == ["a.png", "b/d.npy", "b/mask of.png", "c.npy"]
    assert "2 .npy or .npz file(s) in" in capsys.readouterr().err
    assert found(value_range=(-300, 300)) == ["a.png", "b/d.npy", "b/mask of.png", "c.npy", "floats.npy"]
    assert found(rules=DataRules(2)) == ["a.png", "b/mask of.png"]


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_counted_and_refused(missing):
    bands = np.zeros((4, 5, 2), np.float32)
    bands[0, :2, 1] = missing
    with pytest.raises(DataError, match="2 of its 20 pixels are NaN or infinite"):
        Raster(bands).scaled(2, (0, 1))


def test_the_range_of_floats_has_to_be_told_and_that_of_the_file_is_named():
    bands = np.linspace(-0.25, 3.5, 20, dtype=np.float32).reshape(4, 5, 1)
    with pytest.raises(DataError, match=r"floats of unknown range, here from -0.25 to 3.5: .* --value_range LOW HIGH"):
        Raster(bands).scaled(1)
    scaled, clipped = Raster(bands).scaled(1, (-0.25, 3.5))
    assert not clipped
    assert (scaled.min(), scaled.max()) == (-1, 1)


def test_arrays_of_rows_are_told_from_what_is_none():
    assert np.array_equal(np.load(io.BytesIO(to_npy([[1, 2], [3, 4]], np.dtype("u1")))), [[1, 2], [3, 4]])
    assert np.load(io.BytesIO(to_npy([[1, 2]], np.dtype("u1")))).dtype == np.uint8
    assert to_npy([[1, 2], [3]]) is None
    assert to_npy(None) is None
    assert to_npy([["a", object()]]) is None
