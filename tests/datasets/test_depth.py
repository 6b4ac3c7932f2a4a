"""Images of 16 bits, of floats and of many bands, as files: against numpy, Pillow, tifffile and closed forms."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from support.hostile_images import DISPLAY_P3, SRGB, encoded, rgb_profile
from vae_plugin import notices
from vae_plugin.datasets import DataError, DataRules, ImageReader
from vae_plugin.datasets.framing import Framing

OLD = DataRules(2)
VIEW = Framing(8, center_crop=True).view


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(notices, "_said", bytearray(1 << 16))


def tiff(pixels, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **{"photometric": "minisblack", "metadata": None, **options})
    return stream.getvalue()


def npy(pixels):
    stream = io.BytesIO()
    np.save(stream, pixels)
    return stream.getvalue()


def png(pixels):
    return imagecodecs.png_encode(np.ascontiguousarray(pixels))


def noise(seed, shape, dtype=np.uint16):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def tensor(pixels, low, high):
    """What (H, W, C) becomes, in closed form."""
    return torch.from_numpy(((pixels.astype(np.float64) - low) / (high - low) * 2 - 1).transpose(2, 0, 1)).float()


def refused(data, channels, **options):
    with pytest.raises(DataError) as failure:
        ImageReader(**options).tensor(data, channels)
    assert "\n" not in str(failure.value)
    return str(failure.value)


WRITERS = {
    "png": png,
    "tiff": lambda x: tiff(x, photometric="rgb" if x.ndim == 3 else "minisblack"),
    "tiff of Pillow": lambda x: encoded(Image.fromarray(x), "TIFF") if x.ndim == 2 else tiff(x, photometric="rgb"),
    "npy": npy,
}


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_ramp_of_16_bits_keeps_more_than_8(form, channels):
    ramp = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    pixels = ramp if channels == 1 else np.stack([ramp, ramp[::-1], ramp.T], axis=-1)
    data = WRITERS[form](pixels)
    x = ImageReader().tensor(data, channels)
    assert len(x.unique()) == 64 * 64
    assert torch.allclose(x, tensor(pixels.reshape(64, 64, channels), 0, 65535), atol=1e-6)
    assert ImageReader().size(data, channels) == (64, 64)
    if form != "npy":  # by the rules of old runs it has 8 bits
        assert len(ImageReader(OLD).tensor(data, channels).unique()) <= 256


@pytest.mark.parametrize("seed", range(24))
def test_tiffs_of_any_type_layout_and_compression_are_what_was_written(seed):
    rng = np.random.default_rng(seed)
    channels = int(rng.choice([1, 2, 5, 12]))
    dtype = np.dtype(["u1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"][seed % 8])
    shape = (int(rng.integers(33, 40)), int(rng.integers(16, 30)), channels)
    pixels = (rng.normal(size=shape) * 50 + 100).clip(0, 250).astype(dtype)
    kind = rng.choice(["samples", "planes", "pages"]) if channels > 1 else "gray"
    options = {
        "byteorder": rng.choice(["<", ">"]),
        "bigtiff": bool(rng.random() < 0.5),
        "compression": rng.choice(["none", "zlib", "lzw", "zstd"]),
        "tile": (16, 16) if rng.random() < 0.5 else None,
        "predictor": bool(rng.random() < 0.5),
    }
    if options["compression"] == "none":
        options["predictor"] = False
    stored = {"samples": pixels, "gray": pixels[..., 0]}.get(kind, np.moveaxis(pixels, -1, 0))
    if kind in ("samples", "planes"):
        options["planarconfig"] = "contig" if kind == "samples" else "separate"
    stream = io.BytesIO()
    if kind == "pages":
        with tifffile.TiffWriter(stream, byteorder=options.pop("byteorder"), bigtiff=options.pop("bigtiff")) as file:
            for page in stored:
                file.write(page, metadata=None, photometric="minisblack", **options)
        data = stream.getvalue()
    else:
        data = tiff(stored, **options)
    reader = ImageReader(value_range=(0.0, 250.0))
    assert torch.allclose(reader.tensor(data, channels), tensor(pixels, 0, 250), atol=1e-5)
    assert reader.size(data, channels) == (shape[1], shape[0])
    assert "band(s)" in refused(data, 7)


def test_bands_are_resized_as_pillow_resizes_each_of_them():
    pixels = noise(3, (20, 33, 5))
    x = ImageReader().tensor(npy(pixels), 5, VIEW)
    view = VIEW((33, 20))
    for band in range(5):
        values = (pixels[..., band].astype(np.float64) / 65535 * 2 - 1).astype(np.float32)
        expected = np.asarray(Image.fromarray(values).resize(view.size, Image.Resampling.LANCZOS, box=view.box))
        assert np.allclose(x[band], expected.clip(-1, 1), atol=1e-5)
    flipped = ImageReader().tensor(npy(pixels), 5, lambda size: type(view)(view.box, view.size, flip=True))
    assert torch.equal(flipped, x.flip(-1))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("write", [npy, lambda x: tiff(x, photometric="rgb", planarconfig="separate"), tiff])
def test_8_bits_are_the_same_in_any_file(channels, write):
    pixels = noise(channels, (20, 33, channels), np.uint8)
    as_png = encoded(Image.fromarray(pixels[..., 0] if channels == 1 else pixels), "PNG")
    if write is not npy and channels == 1:
        pixels, write = pixels[..., 0], tiff
    elif write is not npy:
        write = {3: lambda x: tiff(x, photometric="rgb"), 4: lambda x: tiff(x, photometric="rgb", extrasamples=[2])}[
            channels
        ]
    for view_of in (None, VIEW):
        expected = ImageReader(OLD).tensor(as_png, channels, view_of)
        assert torch.equal(ImageReader().tensor(write(pixels), channels, view_of), expected)
        assert torch.equal(ImageReader().tensor(as_png, channels, view_of), expected)


def test_gray_colours_and_alpha_of_16_bits_are_converted_as_those_of_8():
    for given in (1, 2, 3, 4):
        eight = noise(given, (12, 9, given), np.uint8)
        deep = png((eight.astype(np.uint16) * 257)[..., 0] if given == 1 else eight.astype(np.uint16) * 257)
        shallow = encoded(Image.fromarray(eight[..., 0] if given == 1 else eight), "PNG")
        for channels in (1, 3, 4):
            ours, theirs = ImageReader().tensor(deep, channels), ImageReader().tensor(shallow, channels)
            assert (ours - theirs).abs().max() < 2.1 / 127.5  # Pillow rounds on the way, twice with an alpha channel


def test_a_profile_of_16_bits_is_converted_with_them():
    levels = noise(5, (16, 16, 3))
    profile = rgb_profile(DISPLAY_P3, 2.2)
    data = tiff(levels, photometric="rgb", iccprofile=profile)
    linear = ((levels / 65535) ** 2.2 @ np.linalg.solve(SRGB, DISPLAY_P3).T).clip(0, 1)
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    x = ImageReader().tensor(data, 3)
    assert (x - tensor(expected, 0, 1)).abs().mean() < 0.5 / 255
    assert len(x.unique()) > 500


def test_the_lowest_value_may_be_white_and_pixels_may_lie_turned():
    pixels = noise(1, (6, 9))
    assert torch.allclose(
        ImageReader().tensor(tiff(pixels, photometric="miniswhite"), 1), -tensor(pixels[..., None], 0, 65535), atol=1e-6
    )
    turned = tiff(pixels, extratags=[(274, 3, 1, 6, True)])  # shown after a quarter turn clockwise
    assert torch.allclose(ImageReader().tensor(turned, 1), tensor(np.rot90(pixels, -1)[..., None], 0, 65535), atol=1e-6)


def test_a_range_that_is_given_is_that_of_every_file(capsys):
    pixels = np.linspace(0, 10_000, 48).reshape(6, 8).astype(np.uint16)
    reader = ImageReader(value_range=(0.0, 10_000.0))
    assert torch.allclose(reader.tensor(png(pixels), 1), tensor(pixels[..., None], 0, 10_000), atol=1e-5)
    eight = noise(0, (6, 8, 3), np.uint8)
    x = ImageReader(value_range=(-255.0, 255.0)).tensor(encoded(Image.fromarray(eight), "PNG"), 3)
    assert torch.allclose(x, tensor(eight, -255, 255), atol=1e-6)
    assert not capsys.readouterr().err
    x = ImageReader(value_range=(0.0, 5000.0)).tensor(png(pixels), 1)
    assert torch.allclose(x, tensor(pixels[..., None], 0, 5000).clamp(-1, 1), atol=1e-5)
    said = capsys.readouterr().err
    assert "values from 0 to 10000, and those beyond --value_range 0 5000 are clipped" in said


def pages(*found, **metadata):
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        for page in found:
            file.write(page, photometric="minisblack", **(metadata or {"metadata": None}))
    return stream.getvalue()


def test_pages_are_bands_where_they_are_as_many_and_else_the_first_is_read(capsys):
    stack = noise(2, (4, 6, 9))
    data = pages(*stack)
    assert torch.allclose(ImageReader().tensor(data, 4), tensor(stack.transpose(1, 2, 0), 0, 65535), atol=1e-6)
    x = ImageReader().tensor(data, 1)
    assert torch.allclose(x, tensor(stack[0][..., None], 0, 65535), atol=1e-6)
    assert "has 4 pages, of which the first is read" in capsys.readouterr().err
    assert "1 band(s) in each of 4 pages, and the model takes 5" in refused(data, 5)
    assert "1 band(s) in each of 2 pages" in refused(pages(stack[0], stack[1, :3]), 2)
    own = ImageReader().tensor(pages(*stack, metadata={}), 4)  # tifffile takes such pages for an image each
    assert torch.equal(own, ImageReader().tensor(data, 4))
    small = (stack[:3] >> 8).astype(np.uint8)
    x = ImageReader().tensor(pages(*small, metadata={}), 3)
    assert torch.allclose(x, tensor(small.transpose(1, 2, 0), 0, 255), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pillow_alone_opens_plain_tiffs(channels, monkeypatch):
    pixels = noise(4, (7, 9, channels), np.uint8)
    file = encoded(Image.fromarray(pixels[..., 0] if channels == 1 else pixels), "TIFF")
    monkeypatch.setattr(tifffile, "TiffFile", None)
    assert torch.allclose(ImageReader().tensor(file, channels), tensor(pixels, 0, 255), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_band_beside_rgb_is_kept(dtype):
    pixels = noise(3, (6, 9, 4)).astype(dtype)
    data = tiff(pixels, photometric="rgb", extrasamples=["unspecified"])
    expected = tensor(pixels, 0, np.iinfo(dtype).max)
    assert torch.allclose(ImageReader().tensor(data, 4), expected, atol=1e-6)


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colours", [1, 3])
def test_a_band_without_a_meaning_is_left_out_of_colours_alone_and_said(dtype, colours, planarconfig, capsys):
    pixels = noise(3, (6, 9, colours + 1)).astype(dtype)
    stored = pixels if planarconfig == "contig" else pixels.transpose(2, 0, 1)
    photometric = "rgb" if colours == 3 else "minisblack"
    data = tiff(stored, photometric=photometric, planarconfig=planarconfig, extrasamples=["unspecified"])
    assert torch.allclose(
        ImageReader().tensor(data, colours), tensor(pixels[..., :-1], 0, np.iinfo(dtype).max), atol=1e-6
    )
    assert (
        "has a band beside its colours, whose meaning it does not say and which is left out" in capsys.readouterr().err
    )


def test_pixels_without_data_are_counted_and_refused():
    pixels = np.ones((6, 9), np.float32)
    pixels[0, :2] = -9999
    data = tiff(pixels, extratags=[(42113, "s", 0, "-9999", True)])
    assert "2 of its 54 pixels are without data (it declares -9999 for them)" in refused(data, 1, value_range=(0, 1))
    pixels[0, 0] = np.nan
    assert "1 of its 54 pixels is NaN or infinite" in refused(tiff(pixels), 1, value_range=(0, 1))


def test_what_has_no_range_no_numbers_or_other_bands_is_refused():
    assert "floats of unknown range, here from 1 to 1: give it by --value_range" in refused(
        tiff(np.ones((4, 4), "f4")), 1
    )
    assert "int16 of unknown range" in refused(npy(np.ones((4, 4), np.int16)), 1)
    assert "complex64" in refused(tiff(np.ones((4, 4), np.complex64)), 1)
    assert "it has 3 band(s), and the model takes 5" in refused(tiff(noise(0, (4, 4, 3)), photometric="rgb"), 5)
    assert "it has 5 band(s), and the model takes 3" in refused(tiff(noise(0, (9, 4, 5)), planarconfig="contig"), 3)
    assert "it has 4 band(s), and the model takes 3" in refused(
        tiff(noise(0, (9, 8, 4)), planarconfig="contig"), 3
    )  # not an alpha channel
    assert "it has 3 band(s), and the model takes 5" in refused(encoded(Image.new("RGB", (4, 4)), "PNG"), 5)
    assert "cut" in refused(npy(noise(0, (4, 4)))[:-3], 1)
    assert "its colours are CMYK, which are read with 8 bits" in refused(
        tiff(noise(0, (9, 8, 4)), photometric="separated"), 3
    )
    assert "uint32 of unknown range, here from 7 to 4000000000: give" in refused(
        tiff(np.array([[7, 4_000_000_000]], np.uint32)), 1
    )
    assert "it is empty" in refused(b"", 3)


@pytest.mark.slow
def test_pillow_warns_of_nothing(tmp_path):
    for name, data in (("cut.tif", tiff(noise(0, (9, 8, 3), np.uint8), photometric="rgb")[:60]), ("palette.png", b"")):
        (tmp_path / name).write_bytes(data)
    palette = Image.fromarray(noise(1, (8, 8), np.uint8)).convert("P")
    palette.save(tmp_path / "palette.png", transparency=bytes(range(200)))
    code = "import sys; from vae_plugin.datasets import ImageReader, DataError\n"
    code += "for path in sys.argv[1:]:\n try: ImageReader().tensor(path, 3)\n except DataError: pass"
    run = [sys.executable, "-c", code, str(tmp_path / "cut.tif"), str(tmp_path / "palette.png")]
    assert subprocess.run(run, capture_output=True, text=True).stderr == ""


def test_a_file_may_claim_any_size_and_is_refused_by_its_header():
    claim = b"{'descr': '<u2', 'fortran_order': False, 'shape': (500000, 500000)}\n"
    assert "500000 x 500000 pixels" in refused(b"\x93NUMPY\1\0" + len(claim).to_bytes(2, "little") + claim, 1)
    assert "the limit is 100 pixels" in refused(npy(noise(0, (11, 11))), 1, max_pixels=100)
    assert "the limit is 100 pixels" in refused(tiff(noise(0, (11, 11))), 1, max_pixels=100)
    assert "the limit is 100 pixels" in refused(png(noise(0, (11, 11))), 1, max_pixels=100)
    huge = tiff(noise(0, (11, 11)))
    for tag in (256, 257):  # the width and height, as the directory of a little-endian TIFF has them
        at = huge.index(tag.to_bytes(2, "little") + b"\4\0") if tag.to_bytes(2, "little") + b"\4\0" in huge else None
        at = huge.index(tag.to_bytes(2, "little") + b"\3\0") if at is None else at
        huge = huge[: at + 2] + b"\4\0" + huge[at + 4 : at + 8] + (400_000).to_bytes(4, "little") + huge[at + 12 :]
    assert "400000 x 400000 pixels" in refused(huge, 1)
    bomb = io.BytesIO()
    np.savez_compressed(bomb, image=np.zeros((300, 400, 5), np.uint8))
    assert len(bomb.getvalue()) < 2000
    assert "400 x 300 pixels" in refused(bomb.getvalue(), 5, max_pixels=100_000)
    bomb = io.BytesIO()
    np.savez_compressed(bomb, image=np.zeros((100, 100, 400)))
    assert "it claims 32000000 bytes" in refused(bomb.getvalue(), 400, max_pixels=10_000)


@pytest.mark.filterwarnings("ignore")  # Pillow's own, of damaged files
def test_damaged_files_are_read_or_refused_in_a_sentence(capfd):
    pixels = noise(0, (12, 10, 5))
    stream = io.BytesIO()
    np.savez_compressed(stream, pixels)
    whole = [
        npy(pixels),
        stream.getvalue(),
        tiff(pixels),
        tiff(pixels, compression="zlib", predictor=True, tile=(16, 16)),
        pages(*pixels.transpose(2, 0, 1)),
        png(pixels[..., :3]),
    ]
    read, reasons = 0, []
    for seed in range(600):
        rng = np.random.default_rng(seed)
        data = bytearray(whole[seed % len(whole)])
        for at in rng.integers(0, min(len(data), 400 if seed % 2 else 10**6), rng.integers(1, 5)):
            data[at] = rng.integers(0, 256)
        data = bytes(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data)
        try:
            x = ImageReader(max_pixels=10_000).tensor(data, 3 if seed % len(whole) == 5 else 5, VIEW)
        except DataError as error:
            reasons.append(str(error))
        else:
            read += 1
            assert x.shape[1:] == (8, 8)
            assert x.abs().max() <= 1
    assert 30 < read < 550
    assert not [reason for reason in reasons if "\n" in reason]
    assert "Traceback" not in capfd.readouterr().err


def test_a_transparent_colour_of_16_bits_is_transparent():
    pixels = noise(0, (2, 3, 3))
    data = png(pixels)
    at = data.index(b"IDAT") - 4
    chunk = b"tRNS" + pixels[0, 1].astype(">u2").tobytes()
    data = data[:at] + (6).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[at:]
    x = ImageReader().tensor(data, 4)
    assert x[3, 0, 1] == -1
    assert (x[3] == 1).sum() == 5
    assert (ImageReader().tensor(data, 3)[:, 0, 1] == 1).all()  # on white


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("form", ["jpeg2000", "ppm", "avif"])
def test_colours_of_more_than_8_bits_keep_them(form, bits):
    largest = (1 << bits) - 1
    pixels = np.random.default_rng(0).integers(0, largest + 1, (8, 8, 3)).astype(np.uint16)
    pixels[0, 0], pixels[0, 1] = largest, 0
    if form == "avif":
        bits, pixels = min(bits, 12), np.minimum(pixels, 4095) if bits == 16 else pixels
        largest = (1 << bits) - 1
        file = imagecodecs.avif_encode(pixels, level=100, bitspersample=bits)
    elif form == "ppm":
        file = b"P6\n8 8\n%d\n" % largest + pixels.astype(">u2").tobytes()
    else:
        file = imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="jp2", bitspersample=bits)
    found = ImageReader().tensor(file, 3, Framing(8).keyed(())).numpy().transpose(1, 2, 0)
    assert np.abs(found - (pixels / largest * 2 - 1)).max() <= 1 / 65535
    assert ImageReader(OLD).tensor(file, 3, Framing(8).keyed(())).shape == (3, 8, 8)
