"""The bands of images of five that a lab shows: chosen in the panel and from Python, against the pixels themselves."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from support.tiny_lab import LIMIT, ask, errors, kinds, levels, listen, one_sentence, open_lab, shown, tiny
from vae_plugin.errors import UserError

IMAGES = torch.rand(6, 5, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def lab():
    with open_lab(tiny("conv", in_channels=5), IMAGES) as lab:
        yield lab


def decoded(lab, bands, latent=None):
    """The bands that a latent decodes to, as levels."""
    z = lab.latent if latent is None else latent
    with torch.no_grad():
        return levels(lab.model.decode(z[None]).sample[0])[..., list(bands)]


def thumbnails(lab):
    """The small pictures of the images, as levels."""
    found = lab._thumbnails
    return np.asarray(Image.open(io.BytesIO(found["png"])).convert("RGB")).astype(int), found["rows"]


def test_the_panel_chooses_the_bands_of_every_picture(lab):
    assert lab.bands == (0, 1, 2)  # more than 4: the first three
    assert (shown(lab) == decoded(lab, (0, 1, 2))).all()
    lab.keep("kept")
    ask(lab, "prior", n=2, seed=0)
    assert lab.wait(LIMIT)
    heard = listen(lab)
    number = ask(lab, "bands", bands=[4, 1, 3])
    assert lab.wait(LIMIT)
    assert kinds(heard, number) == ["frame"]
    assert not errors(heard)
    assert (lab.bands, lab._bands) == ((4, 1, 3), [4, 1, 3])
    assert (shown(lab) == decoded(lab, (4, 1, 3))).all()
    assert (np.asarray(lab.original) == levels(lab.pixels)[..., [4, 1, 3]]).all()
    [frame] = [(content, buffers) for content, buffers in heard if content["kind"] == "frame"]
    sent = np.frombuffer(frame[1][1], np.uint8).reshape(16, 16, 4)[..., :3]
    assert frame[0]["original"] == "rgba"
    assert (sent == levels(lab.pixels)[..., [4, 1, 3]]).all()
    strip, rows = thumbnails(lab)
    assert (strip == np.concatenate([levels(lab.images[i])[..., [4, 1, 3]] for i in rows], axis=1)).all()
    kept = np.asarray(Image.open(io.BytesIO(lab._shelf_view.pictures()[lab.shelf[0].key])).convert("RGB")).astype(int)
    assert (kept == decoded(lab, (4, 1, 3), lab.shelf["kept"].latent)).all()
    [(sheet, [pictures])] = [(content, buffers) for content, buffers in heard if content["kind"] == "sheet"]
    drawn = np.frombuffer(pictures, np.uint8).reshape(sheet["count"], 16, 16, 4)[..., :3]
    for picture, latent in zip(drawn, lab._panel._sheets._sheets["prior"].latents, strict=True):
        assert (picture == decoded(lab, (4, 1, 3), latent)).all()


def test_python_chooses_them_and_the_panel_follows(lab):
    lab.bands = 3
    assert (lab.bands, lab._bands) == ((3,), [3])
    assert (shown(lab) == decoded(lab, (3, 3, 3))).all()
    lab.bands = None
    assert lab.bands == (0, 1, 2)


@pytest.mark.parametrize(
    "bands", [[0, 1], [0, 1, 5], [-1, 0, 0], [], [0.5, 1, 2], "012", None, [[0], 1, 2], [True, 0, 0]]
)
def test_what_is_no_choice_is_one_sentence_and_changes_nothing(lab, bands):
    heard = listen(lab)
    number = ask(lab, "bands", bands=bands)
    assert kinds(heard, number) == ["dropped"]
    [text] = errors(heard)
    assert one_sentence(text)
    assert "bands" in text
    if bands is not None:
        with pytest.raises(UserError, match="give one band, or three for red, green and blue, each from 0 to 4"):
            lab.bands = bands
    assert lab.bands == (0, 1, 2)


def test_two_bands_are_gray_at_first_and_colours_as_they_are():
    with open_lab(tiny("conv", in_channels=2), IMAGES[:, :2]) as lab:
        assert lab.bands == (0,)
        assert (shown(lab) == decoded(lab, (0, 0, 0))).all()
    with open_lab(tiny("conv"), IMAGES[:, :3]) as lab:
        assert (lab.bands, lab._bands) == (None, [])
