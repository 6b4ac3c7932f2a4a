"""Colour profiles and gray of 16 bits, against the closed form of matrix profiles."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from support.hostile_images import DISPLAY_P3, SRGB, encoded, gray_profile, picture, profile, rgb_profile
from vae_plugin import notices
from vae_plugin.datasets import DataRules, ImageReader
from vae_plugin.datasets.transforms import to_uint8


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(notices, "_said", bytearray(1 << 16))


def pixels_of(data, channels=3, version=2):
    """8-bit values (H, W, C), as floats."""
    return to_uint8(ImageReader(DataRules(version)).tensor(data, channels)).permute(1, 2, 0).double().numpy()


def to_levels(linear):
    """The transfer function of sRGB."""
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def expected_srgb(levels, primaries, gamma):
    return to_levels((levels / 255) ** gamma @ np.linalg.solve(SRGB, primaries).T)


def patches(seed=0, channels=3):
    """Flat patches of 8 x 8 pixels, which JPEG keeps as they are to a few levels."""
    levels = np.random.default_rng(seed).integers(0, 256, (4, 6, channels), dtype=np.uint8)
    return levels.repeat(8, 0).repeat(8, 1)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize(("primaries", "gamma"), [(DISPLAY_P3, 2.2), (SRGB, 1.0), (SRGB[:, [1, 2, 0]], 1.8)])
def test_a_profile_of_rgb_is_converted_by_its_matrix_and_curve(form, primaries, gamma):
    more = {"lossless": True} if form == "WEBP" else {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    image = Image.fromarray(patches())
    data = encoded(image, form, icc_profile=rgb_profile(primaries, gamma), **more)
    with Image.open(io.BytesIO(data)) as stored:
        levels = np.asarray(stored.convert("RGB")).astype(float)
    expected = expected_srgb(levels, primaries, gamma)
    error = np.abs(pixels_of(data) - expected)
    assert error.max() < (9 if gamma == 1.0 else 4)  # a gamma of 1 leaves few levels of 8 bits to the dark
    assert error.mean() < 1
    assert np.abs(levels - expected).mean() > 3  # it does change something
    assert np.array_equal(pixels_of(data, version=1), levels)


def test_pure_srgb_red_stored_as_display_p3_is_red():
    red = Image.new("RGB", (8, 8), (234, 51, 35))
    data = encoded(red, "PNG", icc_profile=rgb_profile(DISPLAY_P3))
    assert np.abs(pixels_of(data) - [255, 0, 0]).max() <= 4


def test_images_of_srgb_stay_as_they_are_to_the_bit():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for mode in ("RGB", "RGBA", "P"):
        image = picture(mode)
        assert np.array_equal(
            pixels_of(encoded(image, "PNG", icc_profile=srgb), 4), pixels_of(encoded(image, "PNG"), 4)
        )


@pytest.mark.parametrize("gamma", [1.0, 1.8])
@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_gray_is_converted_by_its_curve(gamma, mode):
    image = picture(mode)
    data = encoded(image, "PNG", icc_profile=gray_profile(gamma))
    levels = (
        np.asarray(image).astype(float) / 257 if mode == "I;16" else np.asarray(image.getchannel("L")).astype(float)
    )
    expected = to_levels((levels / 255) ** gamma)
    got = pixels_of(data, 4)
    bright = levels > 40  # in the dark one level of 8 bits is many of sRGB
    assert np.abs(got[..., 0] - expected)[bright].max() < 3
    assert np.array_equal(got[..., 0], got[..., 2])
    if mode == "LA":
        assert np.array_equal(got[..., 3], np.asarray(image.getchannel("A")))
    assert np.array_equal(pixels_of(data, 1)[..., 0][got[..., 3] == 255], got[..., 0][got[..., 3] == 255])


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_what_is_transparent_stays_so(mode):
    image = picture(mode)
    more = {"transparency": 7} if mode == "P" else {}
    data = encoded(image, "PNG", icc_profile=rgb_profile(DISPLAY_P3), **more)
    plain = pixels_of(encoded(image, "PNG", **more), 4)
    got = pixels_of(data, 4)
    assert np.array_equal(got[..., 3], plain[..., 3])
    assert len(np.unique(got[..., 3])) > 1
    assert np.abs(got[..., :3] - expected_srgb(plain[..., :3], DISPLAY_P3, 2.2)).max() < 4


def cmyk_profile():
    """A device-to-PCS table with two points along each ink: XYZ falls linearly with the ink."""
    # lut8: 4 inks in, 3 of Lab out, matrix of identity, linear tables of 256, and a grid of two points.
    identity = b"".join((1 << 16 if i % 4 == 0 else 0).to_bytes(4, "big") for i in range(9))
    ramp = bytes(range(256))
    grid = bytearray()
    for c in (0, 1):
        for m in (0, 1):
            for y in (0, 1):
                for k in (0, 1):
                    light = 255 * (1 - k) * (3 - c - m - y) // 3
                    grid += bytes([light, 128, 128])
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp * 4 + bytes(grid) + ramp * 3
    tags = [(b"A2B0", table), (b"wtpt", b"XYZ \0\0\0\0" + bytes(12))]
    return profile(b"CMYK", tags, b"prtr").replace(b"CMYKXYZ ", b"CMYKLab ", 1)


def test_a_profile_of_cmyk_is_used():
    ramp = np.zeros((1, 16, 4), np.uint8)
    ramp[0, :, 3] = np.arange(16) * 17  # black ink alone
    image = Image.frombytes("CMYK", (16, 1), ramp.tobytes())
    got = pixels_of(encoded(image, "TIFF", icc_profile=cmyk_profile()))[0]
    lightness = 100 * (1 - np.arange(16) / 15)
    linear = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    assert np.abs(got - to_levels(linear)[:, None]).max() < 4
    assert np.abs(got - pixels_of(encoded(image, "TIFF"))[0]).max() > 5


BROKEN = {
    "noise": lambda good: b"\x07" * 500,
    "empty but for its head": lambda good: good[:128],
    "cut": lambda good: good[: len(good) // 2],
    "of another kind of colour": lambda good: gray_profile(2.2),
    "of a space that nobody has": lambda good: good.replace(b"RGB XYZ ", b"5CLRXYZ "),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_profile_that_cannot_be_used_changes_nothing_and_is_said_once(kind, tmp_path, capsys):
    image = picture()
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(encoded(image, "PNG", icc_profile=BROKEN[kind](rgb_profile(DISPLAY_P3))))
        assert np.array_equal(pixels_of(tmp_path / f"{i}.png"), np.asarray(image))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"note: the colour profile of {tmp_path / '0.png'} cannot be used (")


def test_the_transparent_value_of_16_bit_gray():
    values = np.array([[7, 8, 65535], [7, 30_000, 7]], np.uint16)
    data = encoded(Image.fromarray(values), "PNG", transparency=7)
    assert pixels_of(data, 4)[..., 3].tolist() == [[0, 255, 255], [0, 255, 0]]
    assert pixels_of(data, 1)[..., 0].tolist() == [[255, 0, 255], [255, 117, 255]]
    assert pixels_of(data, 1, version=1)[..., 0].tolist() == [[0, 0, 255], [0, 117, 0]]


def png_of_16_bits(pixels, *more):
    """A PNG of RGB (H, W, 3) in 16 bits, which Pillow does not write; `more` are further chunks."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def test_a_transparent_colour_of_16_bits_is_told_about(capsys):
    pixels = np.array([[[1000, 2000, 60_000]]])
    data = png_of_16_bits(pixels, (b"tRNS", pixels.astype(">u2").tobytes()))
    assert pixels_of(data).tolist() == [[[3, 7, 234]]]
    assert capsys.readouterr().err.startswith(
        f"note: the transparent colour of these {len(data)} bytes, (1000, 2000, 60000)"
    )


@pytest.mark.parametrize(
    ("largest", "noticed"), [(4095, True), (1000, True), (4200, False), (65_535, False), (0, False)]
)
def test_colours_of_12_bits_in_16_are_noticed(largest, noticed, capsys):
    pixels_of(png_of_16_bits(np.linspace(0, largest, 48).reshape(4, 4, 3)))
    said = capsys.readouterr().err
    assert ("has 16 bits, but its values end at" in said) == noticed
    assert bool(said) == noticed


@pytest.mark.parametrize("form", ["TIFF", "PNG"])
def test_values_of_12_bits_in_16_are_noticed_once_with_the_file(form, tmp_path, capsys):
    for name, most in (("wide", 65535), ("narrow", 4095), ("narrower", 1023), ("black", 0)):
        pixels = np.linspace(0, most, 64).reshape(8, 8).astype(np.uint16)
        (tmp_path / name).write_bytes(encoded(Image.fromarray(pixels), form))
        of_8_bits = ImageReader(DataRules(1)).tensor(tmp_path / name, 1)
        assert (ImageReader().tensor(tmp_path / name, 1) - of_8_bits).abs().max() <= 1.01 / 255
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert f"{tmp_path / 'narrow'} has 16 bits, but its values end at 4095 of 65535" in lines[0]
