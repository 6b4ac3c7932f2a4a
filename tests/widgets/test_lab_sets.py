"""Sets of images that a lab is given, their labels, and what of them cannot be read."""

import os

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from support.hostile_images import png_of_size
from support.lab_images import SIZE, chw, expected, pixels, png_of
from support.tiny_lab import one_sentence, open_lab, tiny
from vae_plugin.datasets import Circles, DataError
from vae_plugin.errors import UserError
from vae_plugin.widgets.codec import Codec
from vae_plugin.widgets.image_set import ImageSet
from vae_plugin.widgets.images import as_image
from vae_plugin.widgets.survey import encode_in_batches


class Pairs(Dataset):
    """What data sets of torchvision give."""

    def __init__(self, arrays, labels):
        self.arrays, self.labels = arrays, labels

    def __len__(self):
        return len(self.arrays)

    def __getitem__(self, i):
        return Image.fromarray(self.arrays[i]), self.labels[i]


def everything(images):
    return torch.stack(list(images))


def test_sets_of_every_kind_have_the_same_images(tmp_path):
    arrays = pixels(6, *SIZE, 3)
    wanted = torch.stack([expected(array) for array in arrays])
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / f"{i}.png")
    pictures = [Image.fromarray(array) for array in arrays]
    sources = {
        "list": pictures,
        "tuple of paths": tuple(sorted(tmp_path.iterdir())),
        "array": arrays,
        "tensor": wanted,
        "8-bit tensor": torch.stack([chw(array) for array in arrays]),
        "folder": tmp_path,
        "folder as text": str(tmp_path),
        "pairs": Pairs(arrays, [0] * 6),
        "tensors with labels": TensorDataset(wanted, torch.arange(6)),
        "mappings": [{"pixel_values": image, "other": 1} for image in wanted],
        "mappings of another name": [{"picture": image, "other": 1} for image in pictures],
        "table": datasets.Dataset.from_dict({"image": pictures}),
    }
    for name, source in sources.items():
        images = ImageSet(source, 3, SIZE, 100)
        assert len(images) == 6, name
        torch.testing.assert_close(everything(images), wanted, rtol=0, atol=1e-6, msg=name)
        assert torch.equal(images[-1], images[5]), name
        with pytest.raises(IndexError):
            images[6]


@pytest.mark.parametrize(
    "source", [pixels(8, 8, 3), pixels(8, 8), torch.zeros(3, 8, 8), Image.fromarray(pixels(8, 8, 3))]
)
def test_one_image_is_a_set_of_one(source):
    assert len(ImageSet(source, 3, SIZE, 9)) == 1


def test_one_path_is_a_set_of_one(tmp_path):
    array = pixels(8, 8, 3)
    Image.fromarray(array).save(tmp_path / "cat.png")
    images = ImageSet(tmp_path / "cat.png", 3, SIZE, 9)
    torch.testing.assert_close(everything(images), expected(array)[None], rtol=0, atol=1e-6)
    assert images.name(0) == "cat.png"


def test_a_stack_of_gray_images():
    array = pixels(20, 24, 24)
    for source in (array, torch.from_numpy(array)):
        images = ImageSet(source, 1, (24, 24), 100)
        assert len(images) == 20
        torch.testing.assert_close(images[7], expected(array[7][:, :, None]), rtol=0, atol=1e-6)


def test_the_chosen_images_are_evenly_spread():
    values = torch.linspace(-1, 1, 101).view(-1, 1, 1, 1).expand(-1, 1, *SIZE)
    images = ImageSet(values, 1, SIZE, 6)
    torch.testing.assert_close(everything(images)[:, 0, 0, 0], torch.linspace(-1, 1, 6))
    assert [images.name(i) for i in range(6)] == [f"image {20 * i}" for i in range(6)]
    assert len(ImageSet(values, 1, SIZE, 101)) == len(ImageSet(values, 1, SIZE, 1000)) == 101
    assert len(ImageSet(values, 1, SIZE, 1)) == 1


def test_labels_follow_the_chosen_images():
    images = ImageSet(torch.zeros(101, 1, *SIZE), 1, SIZE, 6, {"height": [i / 8 for i in range(101)]})
    assert images.labels["height"].names is None
    np.testing.assert_allclose(images.labels["height"].values, [0, 2.5, 5, 7.5, 10, 12.5])
    assert images.describe(1) == "image 20, height 2.5"


def test_categories_and_quantities():
    def labels_of(values):
        [(name, labels)] = ImageSet(torch.zeros(len(values), 1, *SIZE), 1, SIZE, 100, values).labels.items()
        assert name == "label"
        return labels

    words = labels_of(["dog", "cat", "dog"])
    assert (words.names, words.values.tolist()) == (["cat", "dog"], [1, 0, 1])
    digits = labels_of(torch.tensor([10, 9, 10]))
    assert (digits.names, digits.values.tolist()) == (["9", "10"], [1, 0, 1])
    truths = labels_of(np.array([True, False]))
    assert (truths.names, truths.values.tolist()) == (["False", "True"], [1, 0])
    assert labels_of([0.5, 1.0]).names is None
    assert labels_of(list(range(21))).names is None  # too many for categories
    assert labels_of(list(range(20))).names == [str(i) for i in range(20)]


@pytest.mark.parametrize("as_label", [int, str, np.int64, torch.tensor])
def test_labels_of_a_torch_data_set(as_label):
    source = Pairs(pixels(4, *SIZE, 3), [as_label(i % 2) for i in range(4)])
    labels = ImageSet(source, 3, SIZE, 100).labels
    assert labels["label"].names == ["0", "1"]
    assert labels["label"].values.tolist() == [0, 1, 0, 1]


def test_labels_of_a_table():
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "animal": datasets.ClassLabel(names=["cat", "dog"]),
            "height": datasets.Value("float32"),
            "note": datasets.Value("string"),
        }
    )
    table = datasets.Dataset.from_dict(
        {
            "image": [Image.fromarray(array) for array in pixels(4, *SIZE, 3)],
            "animal": [1, 0, 1, -1],
            "height": [0.5, 1.5, 2.5, 3.5],
            "note": ["a", "b", "c", "d"],
        },
        features=features,
    )
    labels = ImageSet(table, 3, SIZE, 100).labels
    assert labels.keys() == {"animal", "height"}
    assert [labels["animal"].describe(i) for i in range(4)] == ["dog", "cat", "dog", "none"]
    assert labels["height"].values.tolist() == [0.5, 1.5, 2.5, 3.5]
    third = ImageSet(table, 3, SIZE, 2).labels
    assert third["height"].values.tolist() == [0.5, 3.5]


def test_labels_of_circles_are_their_factors():
    circles = Circles(50, 8, 3, seed=3, hue=True)
    images = ImageSet(circles, 3, SIZE, 8)
    rows = np.linspace(0, 49, 8).round().astype(int)
    assert list(images.labels) == ["x", "y", "radius", "hue"]
    for i, name in enumerate(images.labels):
        np.testing.assert_allclose(images.labels[name].values, circles.factors[rows, i])
        assert images.labels[name].names is None
    assert torch.equal(images[3], circles[int(rows[3])]["pixel_values"])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_generated_circles_have_as_many_channels_as_the_model(channels):
    images = ImageSet(None, channels, (16, 16), 4)
    assert images[0].shape == (channels, 16, 16)
    assert images[0].std() > 0.1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ImageSet(torch.zeros(3, 1, 8, 8), 1, SIZE, 9, [1, 2]), "2 labels"),
        (lambda: ImageSet(torch.zeros(3, 1, 8, 8), 1, SIZE, 9, {"age": [1, 2, 3, 4]}), "4 labels (age)"),
        (lambda: ImageSet([], 1, SIZE, 9), "no image"),
        (lambda: ImageSet({"a": 1}, 1, SIZE, 9), "dict"),
        (lambda: ImageSet(iter([1]), 1, SIZE, 9), "iterator"),
        (lambda: ImageSet(7, 1, SIZE, 9), "int"),
        (lambda: ImageSet([{"a": 1, "b": 2}], 1, SIZE, 9)[0], "a, b"),
        (lambda: ImageSet("no such folder", 1, SIZE, 9), "no such folder"),
    ],
)
def test_what_is_no_set_is_refused_in_one_sentence(make, words):
    with pytest.raises(UserError) as raised:
        make()
    assert words in str(raised.value)
    assert one_sentence(raised.value)


@pytest.fixture
def hostile(tmp_path):
    """A folder with one picture, and files that have its ending but are none of its kind."""
    good = png_of(pixels(*SIZE, 3))
    files = {"good": good, "cut": good[:60], "text": b"text", "maximum": b"P5 1 1 70000 x"}
    files["postscript"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    files["bomb"] = png_of_size(60_000, 60_000)
    for name, data in files.items():
        (tmp_path / f"{name}.png").write_bytes(data)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    return tmp_path


def test_what_cannot_be_read_is_left_out_of_the_survey(hostile):
    names = sorted(hostile.iterdir())
    images = ImageSet(names, 3, (16, 16), 100)
    for i, path in enumerate(names):
        if path.name == "good.png":
            assert images[i].shape == (3, 16, 16)
        else:
            with pytest.raises(DataError) as raised:
                images[i]
            assert one_sentence(raised.value)
            assert path.name in str(raised.value)
    rows = [row for batch in encode_in_batches(Codec(tiny("conv"), 16), images) for row in batch.rows]
    assert [names[row].name for row in rows] == ["good.png"]


def test_a_lab_with_files_that_cannot_be_read_goes_on(hostile):
    """With the one image of them that can."""
    with open_lab("conv", sorted(map(str, hostile.iterdir()))) as lab:
        assert len(lab.space.rows) == 1
        for path in sorted(hostile.iterdir()):
            if path.name != "good.png":
                with pytest.raises(UserError, match=path.name):
                    lab.image = path
        lab.image = hostile / "good.png"
        lab.wait()


@pytest.mark.parametrize(
    "source",
    [
        torch.zeros(3, 8, 8, device="meta"),
        torch.zeros(3, 8, 8).to_sparse(),
        torch.zeros(3, 8, 8, dtype=torch.complex64),
        torch.zeros(3, 0, 8),
        torch.full((3, 8, 8), torch.nan),
        np.zeros((8, 8, 3), object),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8, 0)),
        Image.new("RGB", (0, 8)),
        {"bytes": 7},
    ],
    ids=lambda source: type(source).__name__,
)
def test_tensors_and_arrays_that_hold_no_image_are_refused_in_one_sentence(source):
    with pytest.raises(DataError) as raised:
        as_image(source, 3, SIZE)
    assert one_sentence(raised.value)


def test_a_table_opens_what_is_local_and_no_address(hostile, monkeypatch):
    opened = []
    monkeypatch.setattr("fsspec.open", lambda *arguments, **more: opened.append(arguments))
    monkeypatch.setattr("urllib.request.urlopen", lambda *arguments, **more: opened.append(arguments))
    good = (hostile / "good.png").read_bytes()
    rows = [{"bytes": good, "path": None}, {"bytes": None, "path": str(hostile / "good.png")}]
    rows += [
        {"bytes": None, "path": path}
        for path in ("http://127.0.0.1:1/x.png", "s3://a/b.png", str(hostile / "postscript.png"))
    ]
    for name in ("image", "picture"):
        table = datasets.Dataset.from_dict({name: rows}, datasets.Features({name: datasets.Image()}))
        images = ImageSet(table, 3, SIZE, 100)
        assert torch.equal(images[0], images[1])
        assert torch.equal(images[0], as_image(good, 3, SIZE))
        for i in (2, 3, 4):
            with pytest.raises(DataError):
                images[i]
    assert not opened
