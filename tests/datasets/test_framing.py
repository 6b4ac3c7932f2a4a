"""Which part of an image is seen: against plain crops by PIL and numpy, over many sizes."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from vae_plugin.datasets import DataError, DataRules, ImageReader, image_batches, load_images
from vae_plugin.datasets.framing import CROPS, Framing, aspect_buckets, nearest
from vae_plugin.datasets.transforms import to_uint8

RESOLUTION = 16


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Of which no two windows are equal."""
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    return Image.fromarray(pixels[..., 0] if mode == "L" else pixels, mode if mode == "RGBA" else None)


def sizes(count: int = 60) -> list[tuple[int, int]]:
    rng = np.random.default_rng(3)
    some = [(int(w), int(h)) for w, h in rng.integers(1, 90, (count, 2))]
    return [*some, (16, 16), (16, 40), (40, 16), (15, 300), (300, 17), (1, 1), (17, 17)]


def levels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).reshape(image.height, image.width, -1).permute(2, 0, 1)


@pytest.mark.parametrize("crop", CROPS[:3])
def test_a_view_lies_in_its_image_and_is_a_square(crop):
    for number, (width, height) in enumerate(sizes(300)):
        for framing in (Framing(RESOLUTION, crop), Framing(RESOLUTION, crop).centred()):
            view = framing.view((width, height), (0, 0, number))
            left, top, right, bottom = view.box
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            assert right - left == pytest.approx(bottom - top)
            assert view.size == (RESOLUTION, RESOLUTION)
            side, shorter = right - left, min(width, height)
            if crop == "resized" or shorter < RESOLUTION:
                assert side == shorter
            elif crop == "native":
                assert side == RESOLUTION
            else:
                assert RESOLUTION <= side <= shorter
                assert side == int(side)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_native_crop_is_a_plain_crop_to_the_bit(mode):
    reader, framing = ImageReader(), Framing(RESOLUTION, "native", random_flip=True)
    for number, (width, height) in enumerate(sizes(40)):
        if min(width, height) < RESOLUTION:
            continue
        image = noise(width, height, mode)
        got = to_uint8(reader.tensor(image, len(mode), framing.keyed((5, 1, number))))
        # The draws as release 0.1 had them: position along each axis, and whether to mirror.
        x, y, mirror = np.random.default_rng((5, 1, number)).random(3)
        left, top = int(x * (width - RESOLUTION + 1)), int(y * (height - RESOLUTION + 1))
        window = image.crop((left, top, left + RESOLUTION, top + RESOLUTION))
        expected = levels(window).flip(2) if mirror < 0.5 else levels(window)
        assert torch.equal(got, expected), (width, height)


def test_a_native_centre_crop_is_that_of_numpy():
    for width, height in [(16, 16), (17, 40), (61, 30)]:
        image = noise(width, height)
        got = to_uint8(ImageReader().tensor(image, 3, Framing(RESOLUTION, "native").centred().view))
        left, top = (width - RESOLUTION + 1) // 2, (height - RESOLUTION + 1) // 2
        assert torch.equal(got, levels(image)[:, top : top + RESOLUTION, left : left + RESOLUTION])


@pytest.mark.parametrize("crop", ["native", "multiscale"])
def test_small_images_are_enlarged_as_they_are_by_default(crop):
    reader, key = ImageReader(), (1, 2, 3)
    for size in [(10, 14), (15, 60), (1, 1)]:
        image = noise(*size)
        default = reader.tensor(image, 3, Framing(RESOLUTION).keyed(key))
        assert torch.equal(reader.tensor(image, 3, Framing(RESOLUTION, crop).keyed(key)), default)


def test_a_multiscale_crop_is_a_plain_crop_resized():
    sides = []
    for number in range(400):
        view = Framing(RESOLUTION, "multiscale").view((30, 25), (7, 0, number))
        left, top, right, bottom = map(int, view.box)
        sides.append(right - left)
        if number % 40:
            continue
        image = noise(30, 25).point(lambda value: 96 + value // 4)  # PIL clips between its passes
        got = to_uint8(ImageReader().tensor(image, 3, lambda size, view=view: view)).int()
        expected = image.resize((RESOLUTION, RESOLUTION), Image.Resampling.LANCZOS, box=(left, top, right, bottom))
        assert torch.equal(got, levels(expected).int())
    counts = np.bincount(sides, minlength=26)[16:]
    assert counts.sum() == 400
    assert counts.min() > 15  # 10 sides, 40 of each on average
    assert Framing(RESOLUTION, "multiscale").centred().view((36, 40)).box == (5, 7, 31, 33)  # 26, between 16 and 36


def test_the_draws_of_release_0_1_are_kept():
    for number in range(50):
        draws = np.random.default_rng((3, 1, number)).random(3)
        view = Framing(RESOLUTION, random_flip=True).view((48, 16), (3, 1, number))
        assert view.box == (int(draws[0] * 33), 0, int(draws[0] * 33) + 16, 16)
        assert view.flip == (draws[2] < 0.5)
        assert view == Framing(RESOLUTION, random_flip=True).keyed((3, 1, number))((48, 16))


def test_only_old_rules_round_the_colours_under_alpha():
    image = noise(40, 16, "RGBA")
    framing = Framing(16).centred()
    plain = levels(image)[:, :, 12:28]
    assert torch.equal(to_uint8(ImageReader().tensor(image, 4, framing.view)), plain)
    old = to_uint8(ImageReader(DataRules(1)).tensor(image, 4, framing.view))
    assert not torch.equal(old, plain)


def test_held_out_images_are_cropped_in_the_same_mode(tmp_path):
    for i in range(4):
        noise(40 + i, 30 + i).save(tmp_path / f"{i}.png")
    train, held_out = load_images(train_data_dir=tmp_path, resolution=16, channels=3, crop="native").split(1)
    row = int(held_out.rows[0])
    width, height = 40 + row, 30 + row
    left, top = (width - 15) // 2, (height - 15) // 2
    expected = levels(noise(width, height))[:, top : top + 16, left : left + 16]
    assert torch.equal(to_uint8(held_out[0]["pixel_values"]), expected)
    assert train.framing.crop == "native"


def test_impossible_framings_are_refused():
    with pytest.raises(DataError, match="give one of resized, native, multiscale, whole"):
        Framing(16, "natvie")


def test_an_upright_image_is_cut_as_it_is_seen(tmp_path):
    image, file = noise(40, 20), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(file, "PNG", exif=exif)
    got = to_uint8(ImageReader().tensor(file.getvalue(), 3, Framing(16, "native").centred().view))
    turned = image.rotate(-90, expand=True)
    assert torch.equal(got, levels(turned)[:, 12:28, 2:18])


@pytest.mark.parametrize(("resolution", "multiple"), [(512, 8), (256, 16), (64, 4), (16, 4), (100, 3), (7, 1), (8, 8)])
def test_buckets_have_about_as_many_pixels_and_whole_multiples(resolution, multiple):
    buckets = aspect_buckets(resolution, multiple)
    side = resolution // multiple * multiple
    assert (side, side) in buckets
    assert {(height, width) for width, height in buckets} == set(buckets)
    for width, height in buckets:
        assert width % multiple == height % multiple == 0
        assert resolution**2 * 0.7 <= width * height <= resolution**2 or (width, height) == (side, side)
        assert max(width, height) <= 4 * min(width, height)


def test_an_image_goes_to_the_bucket_of_the_nearest_aspect_ratio():
    buckets = aspect_buckets(512, 8)
    for width, height in sizes(200):
        got = buckets[nearest(np.array([[width, height]]), buckets)[0]]
        ratios = {bucket: (bucket[0] / bucket[1]) / (width / height) for bucket in buckets}
        assert max(ratios[got], 1 / ratios[got]) == pytest.approx(min(max(r, 1 / r) for r in ratios.values()))


def test_a_whole_image_covers_its_bucket():
    framing = Framing(64, "whole", buckets=aspect_buckets(64, 8))
    for number, (width, height) in enumerate(sizes(300)):
        for centred, bucket in ((framing, None), (framing.centred(), None), (framing, framing.buckets[0])):
            view = centred.view((width, height), (number,), bucket)
            left, top, right, bottom = view.box
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            assert view.size in framing.buckets
            assert (right - left) / (bottom - top) == pytest.approx(view.size[0] / view.size[1], rel=1e-6)
            assert right - left == pytest.approx(width) or bottom - top == pytest.approx(height)
            if centred is not framing:
                assert abs(left - (width - right)) <= 1.001 * (right - left) / view.size[0]


def test_a_whole_image_is_resized_by_pil_alone_where_its_aspect_ratio_is_that_of_a_bucket():
    image, framing = noise(96, 32).point(lambda value: 96 + value // 4), Framing(32, "whole", buckets=((48, 16),))
    got = to_uint8(ImageReader().tensor(image, 3, framing.keyed((1, 2))))
    assert torch.equal(got, levels(image.resize((48, 16), Image.Resampling.LANCZOS)))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_the_size_in_the_header_is_that_of_the_upright_image(form):
    for orientation in range(9):
        file, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = orientation
        noise(12, 8).save(file, form, exif=exif)
        size = ImageReader().size(file.getvalue(), as_seen=True)
        assert (
            size == ImageReader().tensor(file.getvalue(), 3).shape[:0:-1] == ((8, 12) if orientation > 4 else (12, 8))
        )


def test_whole_images_need_their_sizes(tmp_path):
    noise(40, 20).save(tmp_path / "0.png")
    with pytest.raises(DataError, match="needs the sizes of all images"):
        load_images(
            train_data_dir=tmp_path, resolution=16, channels=3, crop="whole", buckets=((16, 16),), remote_images=True
        )
    with pytest.raises(DataError, match="give both 'whole' and its buckets"):
        load_images(train_data_dir=tmp_path, resolution=16, channels=3, crop="whole")


def test_a_substitute_has_the_size_of_the_image_that_it_stands_for(tmp_path):
    for i, size in enumerate([(40, 10), (10, 40), (40, 10), (10, 40)]):
        noise(*size).save(tmp_path / f"{i}.png")
    images = load_images(
        train_data_dir=tmp_path, resolution=16, channels=3, crop="whole", buckets=((8, 32), (16, 16), (32, 8))
    )
    (tmp_path / "0.png").write_bytes((tmp_path / "0.png").read_bytes()[:200])
    assert images[0]["pixel_values"].shape == (3, 8, 32)
    assert images[0]["unreadable"]
    assert images.bucket_numbers().tolist() == [2, 0, 2, 0]
    unreadable: set[str] = set()
    shapes = [tuple(batch.shape) for batch in image_batches(images, 8, unreadable)]
    assert shapes == [(2, 3, 32, 8), (1, 3, 8, 32)]
    assert unreadable == {str(tmp_path / "0.png")}
