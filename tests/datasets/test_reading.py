"""The one door to image files: whatever stands behind it, a tensor comes out or one sentence."""

from __future__ import annotations

import os
import socket
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vae_plugin.widgets
from support.hostile_images import EXIF_BLOCKS, damage, encoded, exif, picture, png_of_size, seeds
from vae_plugin.datasets import DataError, DataRules, ImageReader
from vae_plugin.datasets.formats import endings, formats
from vae_plugin.datasets.framing import Framing
from vae_plugin.datasets.transforms import to_uint8

READER = ImageReader()


def sentence(source, reader=READER, channels=3):
    """The one sentence that an image is refused with."""
    with pytest.raises(DataError) as raised:
        reader.tensor(source, channels, Framing(8, center_crop=True).view)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("view_of", [None, Framing(8, center_crop=True).view])
def test_whole_files_of_every_format_are_read(view_of):
    for name, data in seeds().items():
        for channels in (1, 3, 4):
            if name == "pfm":
                assert "floats of unknown range" in sentence(data)
                continue
            x = READER.tensor(data, channels, view_of)
            assert x.shape[0] == channels
            assert x.abs().max() <= 1


@pytest.mark.filterwarnings("ignore")  # Pillow's own, of damaged EXIF
def test_damaged_files_are_read_or_refused_in_a_sentence():
    refused = []
    for seed in range(1500):
        reader = ImageReader(DataRules(1 + seed % 2), max_pixels=1_000_000)
        try:
            x = reader.tensor(
                damage(np.random.default_rng(seed)), (1, 3, 4)[seed % 3], Framing(8, center_crop=True).view
            )
        except DataError as error:
            refused.append(str(error))
        else:
            assert x.shape[1:] == (8, 8)
            assert x.abs().max() <= 1
    assert 100 < len(refused) < 1400
    assert not any("\n" in text for text in refused)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("block", EXIF_BLOCKS)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_never_keeps_an_image_from_being_read(block, form):
    plain = to_uint8(READER.tensor(encoded(picture(), form), 3))
    got = to_uint8(READER.tensor(encoded(picture(), form, exif=EXIF_BLOCKS[block]), 3))
    turned = block not in ("no directory", "no TIFF", "nothing")
    assert torch.equal(got, plain.rot90(-1, (1, 2)) if turned else plain)


def test_every_orientation_of_a_file_on_disk_is_that_of_pillow(tmp_path):
    from PIL import ImageOps

    for form in ("JPEG", "PNG", "WEBP", "TIFF"):
        for orientation in range(10):
            path = tmp_path / f"{orientation}.{form}"
            block = exif((0x0112, 3, 1, struct.pack("<HH", orientation, 0)))
            more = {"tiffinfo": {274: orientation}} if form == "TIFF" else {"exif": block}
            path.write_bytes(encoded(picture(), form, **more))
            with Image.open(path) as image:
                expected = np.asarray(ImageOps.exif_transpose(image))
            for source in (path, path.read_bytes()):
                got = to_uint8(READER.tensor(source, 3))
                assert np.array_equal(got.permute(1, 2, 0).numpy(), expected), (form, orientation)


def test_one_limit_of_pixels_that_can_be_lowered_and_raised(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 89_478_485)
    assert "limit is 178956970 pixels (--max_image_pixels)" in sentence(png_of_size(60_000, 60_000))
    assert "claims 12 x 10 pixels" in sentence(encoded(picture(size=(12, 10)), "PNG"), ImageReader(max_pixels=119))
    assert ImageReader(max_pixels=120).tensor(encoded(picture(size=(12, 10)), "PNG"), 3).shape == (3, 10, 12)
    with pytest.raises(DataError, match="claims 12 x 10"):
        ImageReader(max_pixels=119).size(encoded(picture(size=(12, 10)), "PNG"))
    # Only the header is looked at, so that a larger limit costs no memory here.
    assert ImageReader(max_pixels=4_000_000_000).size(png_of_size(60_000, 60_000)) == (60_000, 60_000)
    with pytest.raises(DataError, match="at least 1"):
        ImageReader(max_pixels=0)


def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the path of a socket may have a hundred bytes
        server.bind("socket.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    for name in ("pipe", "socket", "folder", "device"):
        for read in (READER.tensor, lambda path, channels: READER.encoded(path)):
            with pytest.raises(DataError, match="is not a file but a folder, pipe, socket or device"):
                read(tmp_path / f"{name}.jpg", 3)
    assert "No such file" in sentence(tmp_path / "nothing.jpg")


@pytest.mark.parametrize("version", [1, 2])
def test_no_program_is_started_for_an_image(tmp_path, monkeypatch, version):
    started = []
    monkeypatch.setattr("subprocess.Popen", lambda *arguments, **more: started.append(arguments))
    monkeypatch.setattr("subprocess.check_call", lambda *arguments, **more: started.append(arguments))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    reader = ImageReader(DataRules(version))
    for name in ("a.jpg", "a.eps"):
        (tmp_path / name).write_bytes(eps)
        assert "none of JPEG, PNG" in sentence(tmp_path / name, reader)
    assert not started


def test_the_usual_formats_are_read_whatever_the_name_and_no_others(tmp_path):
    for form in ("TGA", "ICO", "PCX", "SGI"):
        (tmp_path / "a.png").write_bytes(encoded(picture(), form))
        assert "none of JPEG, PNG" in sentence(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(encoded(picture(), "JPEG"))
    assert READER.tensor(tmp_path / "a.png", 3).shape == (3, 14, 20)
    # What release 0.1 read, the continuation of its runs reads.
    for form in ("ICO", "PCX", "SGI"):
        assert ImageReader(DataRules(1)).tensor(encoded(picture(size=(16, 16)), form), 3).shape == (3, 16, 16)


def test_endings_agree_with_the_formats():
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".jp2"} < endings()
    assert not {".eps", ".ico", ".tga", ".psd", ".pdf"} & endings()
    assert {Image.registered_extensions()[ending] for ending in endings()} == set(formats())
    assert {".eps", ".ico", ".tga"} < endings(DataRules(1))
    assert "EPS" not in formats(DataRules(1))


HEIC = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(40)


def test_heic_needs_its_extra():
    if "HEIF" in formats():
        pytest.skip("pillow-heif is installed")
    assert "pip install pillow-heif" in sentence(HEIC)


def test_the_extra_is_registered_where_it_is_installed(monkeypatch):
    from vae_plugin.datasets import formats as module

    class Opened(Image.Image):
        def __init__(self):
            super().__init__()
            self._mode, self._size = "RGB", (4, 4)
            self.im = Image.new("RGB", (4, 4), (9, 9, 9)).im

    def register():
        Image.register_open("HEIF", lambda file, name: Opened(), lambda head: head[4:8] == b"ftyp")
        Image.register_extensions("HEIF", [".heic"])

    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "EXTENSION", dict(Image.EXTENSION))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register))
    module.set_up_pillow.cache_clear()
    endings.cache_clear()
    try:
        assert ".heic" in endings()
        assert to_uint8(READER.tensor(HEIC, 3)).unique().tolist() == [9]
    finally:
        module.set_up_pillow.cache_clear()
        endings.cache_clear()


ERRORS = [MemoryError(), struct.error("short"), SyntaxError("a\nb"), ZeroDivisionError(), RecursionError(), OSError()]
STEPS = {"open": "open", "load": "Image.load", "getexif": "Image.getexif", "convert": "Image.convert"}


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("step", STEPS)
def test_whatever_pillow_raises_on_the_way_is_one_sentence(monkeypatch, error, step):
    def fail(*arguments, **more):
        raise error

    data = encoded(picture(), "BMP")
    monkeypatch.setattr("PIL.BmpImagePlugin.BmpImageFile.load" if step == "load" else f"PIL.Image.{STEPS[step]}", fail)
    if step == "getexif":
        assert READER.tensor(data, 3, Framing(8, center_crop=True).view).shape == (3, 8, 8)
    else:
        assert sentence(data, channels=1).startswith(f"these {len(data)} bytes cannot be read as an image: ")


def test_a_file_that_is_too_large_for_its_pixels_is_not_read(tmp_path):
    with open(tmp_path / "a.webp", "wb") as file:
        file.write(encoded(picture(), "WEBP"))
        file.truncate(1 << 40)  # a terabyte, of which nothing is on the disk
    assert f"it has {1 << 40} bytes" in sentence(tmp_path / "a.webp")
    with pytest.raises(DataError, match="bytes, which no image"):
        READER.encoded(tmp_path / "a.webp")


def test_nothing_else_opens_an_image():
    package = Path(vae_plugin.__file__).parent
    widgets = Path(vae_plugin.widgets.__file__).parent
    for path in {*package.rglob("*.py"), *widgets.rglob("*.py")}:
        if path != package / "datasets" / "reading.py":
            assert "Image.open(" not in path.read_text(encoding="utf-8"), path


def test_a_lazy_image_of_the_caller_is_guarded_too(tmp_path):
    data = encoded(picture(size=(64, 64)), "PNG")
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with Image.open(tmp_path / "a.png") as image:
        assert "cannot be read" in sentence(image)


@pytest.mark.parametrize("value", [None, {}, {"bytes": None, "path": None}, {"path": ""}, 7, {"path": 7}])
def test_a_row_without_an_image(value):
    assert "the row holds no image" in sentence(value)
