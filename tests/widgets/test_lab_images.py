"""Images in every form, and sets of them, against the rule in plain numpy and PIL."""

import numpy as np
import pytest
import torch
from PIL import Image

from support.lab_images import SIZE, chw, expected, pixels, png_of
from support.tiny_lab import one_sentence
from vae_plugin.datasets import DataError
from vae_plugin.widgets.image_set import ImageSet
from vae_plugin.widgets.images import as_image

FORMS = {
    "PIL": Image.fromarray,
    "bytes": png_of,
    "bytearray": lambda a: bytearray(png_of(a)),
    "memoryview": lambda a: memoryview(png_of(a)),
    "uint8 array": lambda a: a,
    "read-only array": lambda a: np.asarray(Image.fromarray(a)),
    "reversed array": lambda a: np.ascontiguousarray(a[::-1, :, ::-1])[::-1, :, ::-1],
    "float32 array": lambda a: (a / 255).astype(np.float32),
    "float64 array": lambda a: a / 255,
    "uint8 tensor": chw,
    "float tensor": lambda a: chw(a).float() / 127.5 - 1,
    "double tensor with a gradient": lambda a: (chw(a).double() / 127.5 - 1).requires_grad_(),
    "batch of one": lambda a: chw(a)[None].float() / 127.5 - 1,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channels", [3, 4])
def test_every_form_of_a_colour_image_is_the_same_tensor(form, channels):
    array = pixels(*SIZE, channels)
    image = as_image(FORMS[form](array), channels, SIZE)
    assert image.dtype == torch.float32
    assert not image.requires_grad
    torch.testing.assert_close(image, expected(array), rtol=0, atol=1e-6)


@pytest.mark.parametrize("as_path", [str, lambda path: path])
def test_a_path(as_path, tmp_path):
    array = pixels(*SIZE, 3)
    Image.fromarray(array).save(tmp_path / "an image.png")
    image = as_image(as_path(tmp_path / "an image.png"), 3, SIZE)
    torch.testing.assert_close(image, expected(array), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "form", [Image.fromarray, png_of, np.copy, lambda a: a[:, :, None], lambda a: chw(a[..., None]), torch.from_numpy]
)
def test_every_form_of_a_gray_image(form):
    array = pixels(*SIZE)
    for channels in (1, 3):
        wanted = expected(array[:, :, None].repeat(channels, 2))
        torch.testing.assert_close(as_image(form(array), channels, SIZE), wanted, rtol=0, atol=1e-6)
    alpha = as_image(form(array), 4, SIZE)
    torch.testing.assert_close(alpha[:3], expected(array[:, :, None].repeat(3, 2)), rtol=0, atol=1e-6)
    assert torch.equal(alpha[3], torch.ones(SIZE))


@pytest.mark.parametrize("form", ["PIL", "bytes", "uint8 array", "float64 array", "float tensor"])
def test_gray_of_colours_is_their_luma(form):
    array = pixels(*SIZE, 3)
    luma = array @ np.array([0.299, 0.587, 0.114])
    gray = as_image(FORMS[form](array), 1, SIZE)
    # Of a file it is rounded to one of 256 levels.
    np.testing.assert_allclose((gray[0].numpy() + 1) * 127.5, luma, atol=0.51 if form in ("PIL", "bytes") else 1e-3)


@pytest.mark.parametrize("form", ["PIL", "uint8 array", "float64 array", "float tensor"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_opaque_image_loses_its_alpha_channel_only(form, channels):
    array = pixels(*SIZE, 4)
    array[..., 3] = 255
    assert torch.equal(
        as_image(FORMS[form](array), channels, SIZE), as_image(FORMS[form](array[..., :3].copy()), channels, SIZE)
    )


@pytest.mark.parametrize("form", ["PIL", "bytes"])
def test_a_transparent_image_lies_on_white(form):
    array = pixels(*SIZE, 4)
    alpha = array[..., 3:] / 255
    on_white = array[..., :3] * alpha + 255 * (1 - alpha)
    image = as_image(FORMS[form](array), 3, SIZE)
    np.testing.assert_allclose((image.permute(1, 2, 0).numpy() + 1) * 127.5, on_white, atol=1.01)


def test_other_numbers_of_channels_are_taken_as_they_are():
    image = torch.rand(5, *SIZE) * 2 - 1
    assert torch.equal(as_image(image, 5, SIZE), image)


@pytest.mark.parametrize("shape", [(8, 16), (17, 8)])
def test_the_longer_side_is_cropped_in_the_middle(shape):
    array = pixels(*shape, 3)
    top, left = (shape[0] - 8) // 2, (shape[1] - 8) // 2
    middle = expected(array[top : top + 8, left : left + 8])
    torch.testing.assert_close(as_image(array, 3, SIZE), middle, rtol=0, atol=1e-6)
    if shape == (8, 16):  # of 9 pixels to spare a file's crop may begin one earlier
        torch.testing.assert_close(as_image(Image.fromarray(array), 3, SIZE), middle, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 16), (40, 24), (5, 5), (6, 12)])
def test_tensors_are_resized_as_pil_does_it(shape):
    array = pixels(*shape, 3)
    side = min(shape)
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    floats = (array / 127.5 - 1).astype(np.float32)[top : top + side, left : left + side]
    planes = [Image.fromarray(floats[..., c]).resize(SIZE, Image.Resampling.BICUBIC) for c in range(3)]
    wanted = np.stack([np.asarray(plane) for plane in planes]).clip(-1, 1)
    np.testing.assert_allclose(as_image(chw(array), 3, SIZE), wanted, atol=1e-4)
    np.testing.assert_allclose(as_image(array, 3, SIZE), wanted, atol=1e-4)


def test_files_are_resized_as_fine_tuning_does_it():
    array = pixels(24, 36, 3)
    small = Image.fromarray(array).resize(SIZE, Image.Resampling.LANCZOS, box=(6, 0, 30, 24))
    wanted = expected(np.asarray(small))
    torch.testing.assert_close(as_image(Image.fromarray(array), 3, SIZE), wanted, rtol=0, atol=1e-6)


def test_the_users_array_is_neither_changed_nor_shared():
    array, tensor = np.full((*SIZE, 3), 0.25), torch.zeros(3, *SIZE)
    images = ImageSet([array, tensor], 3, SIZE, 9)
    first, second = images[0], images[1]
    first += 1
    second += 1
    assert (array == 0.25).all()
    assert (tensor == 0).all()
    as_image(array, 3, SIZE).add_(1)
    assert (array == 0.25).all()


def test_a_read_only_array_brings_no_warning(recwarn):
    torch.set_warn_always(True)
    try:
        as_image(np.asarray(Image.fromarray(pixels(*SIZE, 3))), 3, SIZE)
    finally:
        torch.set_warn_always(False)
    assert [str(w.message) for w in recwarn] == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((8, 8, 3), np.int64), "int64"),
        (np.zeros((8, 8, 3), bool), "bool"),
        (np.zeros((8, 8, 3), np.uint16), "uint16"),
        (np.zeros((8, 8, 3), complex), "complex128"),
        (np.full((8, 8, 3), 255.0), "255"),
        (np.full((8, 8, 3), -0.5), "-0.5"),
        (np.full((8, 8, 3), np.nan), "nan"),
        (np.zeros((2, 2, 8, 8)), "(2, 2, 8, 8)"),
        (np.zeros(8), "(8,)"),
        (np.zeros((8, 8, 2), np.uint8), "2 channels"),
        (np.zeros((0, 8, 3), np.uint8), "(3, 0, 8)"),
        (np.zeros((0, 8, 3)), "(0, 8"),
        (np.zeros((8, 8, 3), object), "object"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "int64"),
        (torch.full((3, 8, 8), 1.5), "1.5"),
        (torch.full((3, 8, 8), float("inf")), "inf"),
        (torch.full((3, 8, 8), float("nan")), "nan"),
        (torch.zeros(2, 3, 8, 8), "(2, 3, 8, 8)"),
        (torch.zeros(8), "(8,)"),
        (torch.zeros(5, 8, 8), "5 channels"),
        ("nowhere.png", "nowhere.png"),
        (b"no image", "these 8 bytes"),
        (png_of(pixels(8, 8, 3))[:-40], "bytes"),
        (7, "int"),
        (None, "NoneType"),
        ([[0.0]], "list"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(value, words):
    with pytest.raises(DataError) as raised:
        as_image(value, 3, SIZE)
    assert words in str(raised.value)
    assert one_sentence(raised.value)


def test_a_file_for_a_model_of_five_channels_is_refused():
    with pytest.raises(DataError, match="5 channels") as raised:
        as_image(Image.fromarray(pixels(8, 8, 3)), 5, SIZE)
    assert one_sentence(raised.value)
