"""From PIL images to tensors and back, against torch's own antialiased resizing and against hand-made pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from vae_plugin.datasets import ImageReader
from vae_plugin.datasets.framing import View, square
from vae_plugin.datasets.transforms import (
    DataError,
    to_pil,
    to_tensor,
    to_uint8,
)


def cropped(
    image: Image.Image,
    resolution: int,
    channels: int,
    position: tuple[float, float] = (0.5, 0.5),
    flip: bool = False,
) -> torch.Tensor:
    """The square at a position, resized."""
    return to_tensor(
        image, channels, lambda size: View(square(size, resolution, position), (resolution, resolution), flip)
    )


def level(value: float) -> float:
    return value / 127.5 - 1


def png(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def smooth_image(width: int, height: int) -> Image.Image:
    """Waves long enough that every good filter resamples them alike."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    waves = [np.sin(2 * np.pi * (a * x + b * y)) for a, b in ((1, 0.5), (0.5, -1), (1, 1))]
    return Image.fromarray((np.stack(waves, -1) * 100 + 128).astype(np.uint8))


def x_ramp(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.broadcast_to(np.arange(width, dtype=np.uint8), (height, width)).copy())


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (60, 60), (300, 100)])
@pytest.mark.parametrize("resolution", [16, 48])
def test_resizing_agrees_with_torch(size, resolution):
    image = smooth_image(*size)
    whole = [length * resolution // min(size) for length in size]
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    # torch has no Lanczos filter; on smooth images its antialiased bicubic one does the same.
    resized = F.interpolate(x, size=(whole[1], whole[0]), mode="bicubic", antialias=True)[0]
    top, left = ((length - resolution) // 2 for length in resized.shape[1:])
    expected = resized[:, top : top + resolution, left : left + resolution]
    got = (cropped(image, resolution, 3) + 1) * 127.5
    assert (got - expected).abs().max() < 5
    assert (got - expected).abs().mean() < 1


@pytest.mark.parametrize(("size", "resolution"), [((96, 64), 16), ((64, 96), 48), ((30, 20), 40), ((60, 60), 17)])
def test_cropping_while_resizing_is_resizing_and_then_cropping(size, resolution):
    # Without black and white: PIL clips between its two passes, and chooses their order by the sizes.
    noise = np.random.default_rng(0).integers(96, 160, (*size[::-1], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    whole = image.resize(tuple(length * resolution // min(size) for length in size), Image.Resampling.LANCZOS)
    for position in (0.0, 0.5, 1.0):
        left, top = (round(position * (length - resolution)) for length in whole.size)
        expected = whole.crop((left, top, left + resolution, top + resolution))
        got = to_uint8(cropped(image, resolution, 3, (position, position))).int()
        assert (got - torch.from_numpy(np.array(expected)).permute(2, 0, 1).int()).abs().max() <= 1


def test_shrinking_is_antialiased():
    stripes = Image.fromarray(np.tile(np.array([0, 255], dtype=np.uint8), (256, 128)))
    x = cropped(stripes, 32, 1)[..., 2:-2]
    assert x.abs().max() < 0.05


def test_the_aspect_is_kept_where_sizes_do_not_divide():
    # 101 x 50 to 16: whole pixels would make the longer side 32 instead of 32.32.
    x = to_uint8(cropped(x_ramp(101, 50), 16, 1))[0].float()
    steps = (x[:, -3] - x[:, 2]) / 11
    torch.testing.assert_close(steps, torch.full((16,), 50 / 16), atol=0.1, rtol=0)


@pytest.mark.parametrize(("position", "first"), [(0.0, 0), (0.5, 17), (0.999, 34), (1.0, 34)])
def test_crops_of_an_image_of_that_size_are_its_own_pixels(position, first):
    wide = x_ramp(50, 16)
    assert torch.equal(cropped(wide, 16, 1, (position, 0.3)), to_tensor(wide, 1)[:, :, first : first + 16])
    tall = wide.transpose(Image.Transpose.TRANSPOSE)
    assert torch.equal(cropped(tall, 16, 1, (0.3, position)), to_tensor(tall, 1)[:, first : first + 16, :])


def test_crops_are_spread_evenly():
    wide = x_ramp(19, 16)  # four positions of the square
    firsts = [to_uint8(cropped(wide, 16, 1, ((i + 0.5) / 40, 0)))[0, 0, 0].item() for i in range(40)]
    assert [firsts.count(first) for first in range(4)] == [10] * 4


def test_flip_mirrors():
    image = smooth_image(40, 30)
    assert torch.equal(cropped(image, 16, 3, flip=True), cropped(image, 16, 3).flip(2))


def test_extreme_shapes_take_no_extreme_memory():
    assert cropped(Image.new("L", (60_000, 1), 255), 512, 1).shape == (1, 512, 512)


def test_values_are_exact_and_round_trip():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    x = cropped(Image.fromarray(values), 16, 1)
    assert torch.equal(x[0], torch.from_numpy(values).float() / 127.5 - 1)
    assert (x.min(), x.max()) == (-1, 1)
    assert x.dtype == torch.float32
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(to_uint8(x.to(dtype))[0], torch.from_numpy(values))
    assert np.array_equal(np.array(to_pil(x)), values)


def test_to_uint8_rounds_and_clamps():
    x = torch.tensor([-2.0, -1.0, level(99.4), level(99.6), 1.0, 7.0], requires_grad=True)
    assert to_uint8(x).tolist() == [0, 0, 99, 100, 255, 255]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_to_pil_keeps_channels(channels, mode):
    pixels = torch.randint(0, 256, (channels, 5, 7), generator=torch.Generator().manual_seed(0))
    image = to_pil(level(pixels.float()))
    assert (image.mode, image.size) == (mode, (7, 5))
    assert torch.equal(to_uint8(to_tensor(image, channels)), pixels.to(torch.uint8))


@pytest.mark.parametrize("shape", [(2, 4, 4), (4, 4), (1, 3, 4, 4)])
def test_to_pil_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="C = 1, 3 or 4"):
        to_pil(torch.zeros(shape))


@pytest.mark.parametrize("channels", [0, 2, 5])
def test_other_numbers_of_channels_are_refused(channels):
    with pytest.raises(DataError, match="RGBA"):
        cropped(Image.new("RGB", (8, 8)), 8, channels)


@pytest.mark.parametrize(
    ("channels", "expected"), [(1, [76]), (3, [255, 0, 0]), (4, [255, 0, 0, 255])], ids=["gray", "rgb", "rgba"]
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "HSV"])
def test_conversion_between_channels(mode, channels, expected):
    image = Image.new("RGB", (4, 4), (255, 0, 0)).convert(mode)
    assert to_uint8(cropped(image, 4, channels))[:, 0, 0].tolist() == expected


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_white_stays_white(mode):
    white = Image.fromarray(np.full((4, 4), 65535, np.uint16)) if mode == "I;16" else Image.new("L", (4, 4), 255)
    image = white if white.mode == mode else white.convert(mode)
    assert image.mode == mode
    for channels in (1, 3, 4):
        assert (cropped(image, 4, channels) == 1).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_what_is_transparent_becomes_white_or_stays_transparent(mode):
    if mode in ("RGBA", "LA"):
        image = Image.new("RGBA", (4, 4), (0, 0, 0, 0)).convert(mode)
    elif mode == "P":
        image = Image.new("RGB", (4, 4), (255, 0, 0)).convert("P")
        image = ImageReader().open(png(image, transparency=image.getpixel((0, 0))))
    else:
        image = ImageReader().open(png(Image.new("RGB", (4, 4), (9, 9, 9)), transparency=(9, 9, 9)))
    assert image.mode == mode
    assert (cropped(image, 4, 1) == 1).all()
    assert (cropped(image, 4, 3) == 1).all()
    assert (cropped(image, 4, 4)[3] == -1).all()


def test_half_transparent_is_mixed_with_white():
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 51))
    assert to_uint8(cropped(image, 4, 3))[:, 0, 0].tolist() == [255, 204, 204]


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4"])
def test_sixteen_bits_are_scaled_and_not_clipped(dtype):
    values = np.array([[0, 257, 32896, 65535], [128, 129, 65406, 65407]])
    image = Image.fromarray(values.astype(dtype))
    got = to_uint8(to_tensor(image, 1))[0].tolist()
    assert got == [[0, 1, 128, 255], [0, 1, 254, 255]]
    if dtype != "<i4":
        read = ImageReader().open(png(image))
        assert to_uint8(to_tensor(read, 3))[1].tolist() == got


def test_sixteen_bit_pgm():
    read = ImageReader().open(b"P5 2 1 65535\n" + np.array([65535, 32896], ">u2").tobytes())
    assert to_uint8(to_tensor(read, 1)).tolist() == [[[255, 128]]]


@pytest.mark.parametrize("pixels", [np.zeros((4, 4), np.float32), np.full((4, 4), 70_000, np.int32)])
def test_pixels_of_unknown_range_are_refused(pixels):
    with pytest.raises(DataError, match="8 or 16 bits"):
        to_tensor(Image.fromarray(pixels), 1)


def test_exif_orientation_is_applied():
    image = Image.new("L", (6, 4), 0)
    image.putpixel((0, 0), 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise: the first pixel is then at the upper right
    x = to_uint8(to_tensor(ImageReader().open(png(image, exif=exif)), 1))
    assert x.shape == (1, 6, 4)
    assert x[0, 0, 3] == 255
    assert x.sum() == 255


@pytest.mark.parametrize(
    ("form", "damage"),
    [
        ("PNG", lambda encoded: b""),
        ("PNG", lambda encoded: b"a text"),
        ("PNG", lambda encoded: encoded[:60] + bytes(200) + encoded[260:]),
        *(
            (form, lambda encoded: encoded[: len(encoded) // 2])
            for form in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")
        ),
    ],
)
def test_damaged_files_are_one_kind_of_error(tmp_path, form, damage):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, form)
    assert ImageReader().open(file.getvalue()).size == (40, 40)
    path = tmp_path / f"image.{form.lower()}"
    path.write_bytes(damage(file.getvalue()))
    for source in (path, str(path), path.read_bytes()):
        with pytest.raises(DataError, match="cannot be read"):
            ImageReader().open(source)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.png"):
        ImageReader().open(tmp_path / "nothing.png")
