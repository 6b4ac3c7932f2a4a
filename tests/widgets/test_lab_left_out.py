"""Images that cannot be used: left out, counted and named, and never replaced by another."""

import numpy as np
import pytest
import torch
from PIL import Image

from support.tiny_lab import LIMIT, ask, errors, listen, one_sentence, open_lab, tiny
from vae_plugin.datasets import DataError
from vae_plugin.widgets import LatentLab
from vae_plugin.widgets.codec import Codec

NAN = float("nan")


def write_folder(folder, bad, n=12):
    """Images of n colours, of which some are no images; their names, and the good ones as tensors."""
    for i in range(n):
        path = folder / f"{'ab'[i % 2]}" / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
        if i in bad:
            path.write_bytes(path.read_bytes()[:40])
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("form", ["folder", "list"])
def test_files_that_cannot_be_read(seed, form, tmp_path):
    bad = set(np.random.default_rng(seed).choice(12, seed + 1, replace=False).tolist())
    names = write_folder(tmp_path, bad)
    lost = {name for name in names if int(name[2:4]) in bad}
    given = tmp_path if form == "folder" else [tmp_path / name for name in names]
    with open_lab("conv", given) as lab:
        own = dict(zip(names, lab.images.names, strict=True))
        assert set(lab.left_out) == {own[name] for name in lost}
        good = [names.index(name) for name in names if name not in lost]
        assert lab.space.rows == good
        assert len(lab.space) == 12 - len(lost)
        for row, mean in zip(good, lab.space.means, strict=True):
            torch.testing.assert_close(mean, lab.encode(tmp_path / names[row]), rtol=0, atol=1e-5)
        [problem] = lab._problems
        assert problem["text"].startswith(f"{len(lost)} of 12 images")
        assert all(own[name] in problem["text"] for name in sorted(lost)[:5])
        assert one_sentence(problem["text"])
        assert lab.get_state()["_thumbnails"]["rows"] == good
        listen(lab)
        assert lab._session.state.name.startswith(own[names[good[0]]])
        for row in range(12):
            heard = listen(lab)
            ask(lab, "pick", index=row)
            assert lab.wait(LIMIT)
            assert bool(errors(heard)) == (row not in good)


def test_images_whose_latents_are_nan_are_left_out(monkeypatch):
    encode = Codec.encode

    def spoiled(self, images):
        encoded = encode(self, images)
        encoded.mean[(images.mean((1, 2, 3)) - 0.5).abs() < 0.01] = NAN
        return encoded

    monkeypatch.setattr(Codec, "encode", spoiled)
    with open_lab("conv", [torch.full((3, 16, 16), i / 10) for i in range(8)]) as lab:
        assert list(lab.left_out) == ["image 5"]
        assert lab.space.rows == [0, 1, 2, 3, 4, 6, 7]


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.rand(20, 3, 16, 16) * 255, "any of the 20 images"),
        (["nowhere.png", "nor here.png"], "nowhere.png"),
        ([np.full((16, 16, 3), 7.0)] * 3, "any of the 3 images"),
        ([torch.full((3, 16, 16), NAN)], "the one image"),
    ],
)
def test_images_of_which_none_can_be_used_are_refused_in_the_cell(images, words):
    with pytest.raises(DataError) as raised:
        LatentLab(tiny("conv"), images, resolution=16)
    assert words in str(raised.value)
    assert one_sentence(raised.value)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_model_that_gives_nan_is_refused_in_the_cell(part):
    model = tiny("conv")
    with torch.no_grad():
        next(getattr(model, part).parameters()).fill_(NAN)
    with pytest.raises(Exception, match="NaN") as raised:
        LatentLab(model, resolution=16, max_images=3)
    assert one_sentence(raised.value)
