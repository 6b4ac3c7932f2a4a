"""What the front end hears of the shelf: little at each change, and each picture once."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from support.tiny_lab import LIMIT, ask, errors, levels, listen, open_lab
from vae_plugin.widgets.codec import Codec


def pictures(lab, keys, heard):
    number = ask(lab, "thumbnails", keys=keys)
    assert lab.wait(LIMIT)
    [(content, buffers)] = [message for message in heard if message[0].get("id") == number]
    found = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int) for data in buffers]
    return dict(zip(content["keys"], found, strict=True))


@pytest.mark.parametrize("name", ["conv", "rvq"])
def test_the_pictures_are_those_of_the_latents(name):
    with open_lab(name, max_images=4) as lab:
        heard = listen(lab)
        lab.shelf = [torch.randn(lab.latent.shape, generator=torch.Generator().manual_seed(i)) for i in range(11)]
        if name == "rvq":
            ask(lab, "edit", edits=[{"code": {"y": 1, "x": 2, "stage": 1, "code": 5}}])
            lab.keep("codes")
        found = pictures(lab, [item.key for item in lab.shelf] + ["nowhere"], heard)
        assert errors(heard) == []
        assert list(found) == [item.key for item in lab.shelf]
        with torch.no_grad():
            for item in lab.shelf:
                if item.indices is None:
                    image = lab.model.decode(item.latent[None].clone()).sample[0]
                else:
                    image = lab.model.decode_indices(item.indices[None])[0]
                assert np.abs(found[item.key] - levels(image)).max() <= 1


def test_two_hundred_latents_are_small_and_drawn_once(monkeypatch):
    decoded, decode = [], Codec.decode
    monkeypatch.setattr(Codec, "decode", lambda self, z, *more: (decoded.append(len(z)), decode(self, z, *more))[1])
    with open_lab("conv", max_images=4) as lab:
        latents = torch.randn(200, *lab.latent.shape, generator=torch.Generator().manual_seed(0))
        for i, z in enumerate(latents):
            lab.shelf = [*lab.shelf, z]
            assert len(lab.shelf) == i + 1
        assert lab.wait(LIMIT)
        decoded.clear()
        heard = listen(lab)
        keys = [item.key for item in lab.shelf]
        for begin in range(0, 200, 24):
            pictures(lab, keys[begin : begin + 24], heard)
        assert sum(decoded) == 200
        assert len(decoded) <= 30
        pictures(lab, keys, heard)
        lab.keep("one more")
        assert sum(decoded) == 200  # nothing is drawn again
        # Each change sends names and norms: 201 lists, the longest of 201.
        assert len(repr(lab.get_state("_shelf"))) < 201 * 100
        assert all("png" not in item for item in lab._shelf)


def test_other_bands_are_other_pictures():
    with open_lab("conv", max_images=4) as lab:
        heard = listen(lab)
        key = lab.keep("a").key
        colour = pictures(lab, [key], heard)[key]
        before = lab._shelf[0]["drawn"]
        lab.bands = 1
        assert lab._shelf[0]["drawn"] != before
        gray = pictures(lab, [key], heard)[key]
        assert np.array_equal(gray, np.repeat(colour[..., 1:2], 3, -1))
