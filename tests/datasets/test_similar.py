"""Near-duplicates: the difference hash against one written with loops, its groups against all pairs."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from support.near_copies import photograph
from vae_plugin.datasets import load_images
from vae_plugin.datasets.groups import split_by_group
from vae_plugin.datasets.similar import BITS, groups_by_hash, hashes


def opened(folder, channels=3):
    return load_images(train_data_dir=folder, channels=channels, resolution=8)


def by_loops(image):
    """As Ben Hoyt's package `dhash` does it."""
    grays = list(image.convert("L").resize((9, 9), Image.Resampling.LANCZOS).get_flattened_data())
    places = [9 * y + x for y in range(8) for x in range(8)]
    rows = [grays[at] < grays[at + 1] for at in places]
    return rows + [grays[at] < grays[at + 9] for at in places]


def test_the_hash_is_the_difference_hash(tmp_path):
    for i in range(6):
        photograph(i).convert("L").save(tmp_path / f"{i}.png")
    found = hashes(opened(tmp_path, channels=1), range(6), threads=2)
    assert found.shape == (6, BITS + 1)
    assert found[:, :BITS].tolist() == [by_loops(photograph(i)) for i in range(6)]
    assert not found[:, BITS].any()


def jpeg(image, quality):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


COPIES = {
    "compressed": lambda image: jpeg(image, 40),
    "smaller": lambda image: image.resize((40, 30), Image.Resampling.BILINEAR),
    "larger": lambda image: jpeg(image.resize((200, 150), Image.Resampling.BICUBIC), 80),
    "lighter": lambda image: ImageEnhance.Brightness(image).enhance(1.08),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.85),
    "opaque": lambda image: image.convert("RGBA"),
    "sixteen bits": lambda image: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257),
}


def test_copies_are_of_one_group_and_other_images_are_not(tmp_path):
    count = 12
    for i in range(count):
        photograph(i).save(tmp_path / f"{i:02} original.png")
        for name, change in COPIES.items():
            change(photograph(i)).save(tmp_path / f"{i:02} {name}.png")
    (tmp_path / "00 damaged.png").write_bytes(b"no image")
    (tmp_path / "00 damaged too.png").write_bytes(b"no image either")
    images = opened(tmp_path)
    groups = groups_by_hash(hashes(images, range(len(images)), threads=3))
    names = [images.origin.names[row] for row in images.rows]
    expected = [name if "damaged" in name else name[:2] for name in names]
    assert (groups[:, None] == groups).tolist() == [[one == other for other in expected] for one in expected]
    assert groups.tolist() == groups_by_hash(hashes(images, range(len(images)))).tolist()
    assert sorted(set(groups)) == list(range(count + 2))


@pytest.mark.parametrize("most", [0, 3, 8])
def test_the_groups_are_those_of_all_pairs(most):
    rng = np.random.default_rng(most)
    found = np.zeros((600, BITS + 1), dtype=bool)
    found[:200, :BITS] = rng.random((200, BITS)) < 0.5
    for row in range(200, 550):  # chains of copies, each some bits from another
        found[row] = found[rng.integers(row)]
        found[row, rng.choice(BITS, rng.integers(0, most + 3), replace=False)] ^= True
    found[550:580, :BITS] = rng.random((30, BITS)) < 0.02  # nearly flat images
    found[590:, BITS] = True  # cannot be read
    distances = (found[:, None, :BITS] != found[None, :, :BITS]).sum(-1)
    linked = (distances <= most) & ~found[:, None, BITS] & ~found[None, :, BITS]
    expected, number = np.full(600, -1), 0
    for row in range(600):
        if expected[row] >= 0:
            continue
        front = [row]
        while front:
            one = front.pop()
            expected[one] = number
            front += np.flatnonzero(linked[one] & (expected < 0)).tolist()
        number += 1
    assert groups_by_hash(found, most).tolist() == expected.tolist()


def test_groups_that_are_too_large_are_trained_on(tmp_path):
    for i in range(20):
        photograph(i).save(tmp_path / f"{i:02}.png")
    images = opened(tmp_path)
    groups = np.array([0] * 10 + [1] * 3 + list(range(2, 9)))
    sizes = np.bincount(groups)
    for count in (1, 2, 3, 5, 12, 20):
        train, validation = split_by_group(images, groups, count)
        assert len(validation) == count or count > 10
        assert len(validation) <= count
        kept = groups[validation.rows]
        assert all((kept == group).sum() == sizes[group] for group in set(kept))
        assert sorted([*train.rows, *validation.rows]) == list(range(20))
    pairs = np.arange(20) // 2
    assert len(split_by_group(images, pairs, 1)[1]) == 2  # none fits
