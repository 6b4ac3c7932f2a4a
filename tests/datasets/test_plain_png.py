"""PNG files that are decoded without Pillow: the pixels that Pillow has, and its word on what is damaged."""

import io

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vae_plugin.datasets import ImageReader
from vae_plugin.datasets.errors import DataError
from vae_plugin.datasets.plain_png import plain_pixels

MOST = 10_000


def encoded(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def image_of(channels: int) -> Image.Image:
    shape = (13, 28) if channels == 1 else (13, 28, channels)
    return Image.fromarray(np.random.default_rng(channels).integers(0, 256, shape, dtype=np.uint8))


def by_pillow(content: bytes) -> np.ndarray | None:
    try:
        return np.asarray(Image.open(io.BytesIO(content), formats=["PNG"]))
    except (OSError, SyntaxError, ValueError, EOFError):
        return None


@pytest.mark.parametrize("channels", [1, 3])
def test_the_pixels_are_those_of_pillow(channels):
    image = image_of(channels)
    content = encoded(image)
    assert np.array_equal(plain_pixels(content, channels, MOST), np.asarray(image))
    assert np.array_equal(ImageReader().decode({"bytes": content, "path": None}, channels).pixels, np.asarray(image))


def test_what_says_more_than_its_pixels_is_left_to_pillow():
    gray, colours = image_of(1), image_of(3)
    text, exif = PngInfo(), Image.Exif()
    text.add_text("a", "b")
    exif[0x0112] = 6
    others = {
        "text": encoded(gray, pnginfo=text),
        "orientation": encoded(gray, exif=exif),
        "transparency": encoded(gray, transparency=3),
        "profile": encoded(gray, icc_profile=b"profile"),
        "palette": encoded(gray.convert("P")),
        "one bit": encoded(gray.convert("1")),
        "16 bits": encoded(Image.fromarray(np.zeros((4, 4), np.uint16))),
        "alpha": encoded(colours.convert("RGBA")),
        "colours": encoded(colours),
        "JPEG": b"\xff\xd8",
        "nothing": b"",
    }
    assert {name: plain_pixels(content, 1, MOST) for name, content in others.items()} == dict.fromkeys(others)
    assert plain_pixels(encoded(gray), 3, MOST) is None
    assert plain_pixels(encoded(gray), 1, 13 * 28 - 1) is None
    assert plain_pixels(encoded(gray), 2, MOST) is None


def test_a_damaged_file_never_has_other_pixels_than_pillow_finds():
    content, rng = encoded(image_of(1)), np.random.default_rng(0)
    damaged = [content[:end] for end in range(0, len(content), 7)]
    for _ in range(500):
        changed = bytearray(content)
        changed[rng.integers(8, len(content))] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(changed))
    decoded = 0
    for found in damaged:
        pixels = plain_pixels(found, 1, MOST)
        if pixels is not None:
            decoded += 1
            assert np.array_equal(pixels, by_pillow(found))
    assert decoded < 20  # what is left of a file that was cut behind its pixels


def test_a_cut_file_is_refused_in_the_words_of_the_reader():
    with pytest.raises(DataError, match="cannot be read as an image"):
        ImageReader().decode(encoded(image_of(1))[:200], 1)
