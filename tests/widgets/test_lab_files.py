"""Files that a lab writes and opens, and what stays of it in a notebook."""

import io
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from support.lab_session import decoded_one, gaussian
from support.tiny_lab import LIMIT, ask, errors, levels, listen, one_sentence, shown
from vae_plugin.errors import UserError
from vae_plugin.widgets.pictures import still, still_bundle


def test_the_picture_is_saved(lab, tmp_path):
    assert lab.save(tmp_path / "picture.png") == tmp_path / "picture.png"
    picture = np.asarray(Image.open(tmp_path / "picture.png")).astype(int)
    assert np.abs(picture - decoded_one(lab, lab.latent)).max() <= 1
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]


def test_latents_are_saved_and_come_back(lab, tmp_path):
    lab.shelf = {"cat": gaussian(5, 1, 1), "it's {0}": gaussian(5, 1, 1, seed=1), "current": gaussian(5, 1, 1, seed=2)}
    lab.latent = gaussian(5, 1, 1, seed=3)
    path = lab.save(str(tmp_path / "latents.safetensors"))
    assert isinstance(path, Path)
    tensors = safetensors.torch.load_file(path)
    assert tensors.keys() == {"current", "cat", "it's {0}", "current (2)"}
    for name, seed in {"cat": 0, "it's {0}": 1, "current (2)": 2, "current": 3}.items():
        assert torch.equal(tensors[name], gaussian(5, 1, 1, seed=seed))
    assert [path.name for path in tmp_path.iterdir()] == ["latents.safetensors"]

    lab.shelf = []
    heard = listen(lab)
    ask(lab, "open", [path.read_bytes()], name="latents.safetensors")
    assert lab.wait(LIMIT)
    assert errors(heard) == []
    assert set(lab.shelf.names) == tensors.keys()
    assert all(torch.equal(item.latent, tensors[item.name]) for item in lab.shelf)


def test_a_latent_that_is_on_the_shelf_too_is_saved(lab, tmp_path):
    lab.keep("same")
    tensors = safetensors.torch.load_file(lab.save(tmp_path / "a.safetensors"))
    assert torch.equal(tensors["same"], lab.latent)
    assert torch.equal(tensors["current"], lab.latent)


@pytest.mark.parametrize("name", ["__metadata__", "a/b", "", "ünï"])
def test_any_name_can_be_saved(lab, tmp_path, name):
    lab.shelf = {name: gaussian(5, 1, 1)}
    path = lab.save(tmp_path / "a.safetensors")
    lab.shelf = []
    ask(lab, "open", [path.read_bytes()], name="a.safetensors")
    assert any(torch.equal(item.latent, gaussian(5, 1, 1)) for item in lab.shelf)


def test_chosen_codes_are_saved_and_come_back(codes_lab, tmp_path):
    ask(codes_lab, "pick", index=0)
    assert codes_lab.wait(LIMIT)
    ask(codes_lab, "edit", edits=[{"code": {"y": 1, "x": 2, "stage": 0, "code": 3}}])
    assert codes_lab.wait(LIMIT)
    indices, picture = codes_lab.indices, shown(codes_lab)
    path = codes_lab.save(tmp_path / "codes.safetensors")
    assert torch.equal(safetensors.torch.load_file(path)["current.indices"], indices)
    ask(codes_lab, "pick", index=1)
    assert codes_lab.wait(LIMIT)
    ask(codes_lab, "open", [path.read_bytes()], name="codes.safetensors")
    assert codes_lab.wait(LIMIT)
    assert torch.equal(codes_lab.indices, indices)
    assert np.array_equal(shown(codes_lab), picture)


@pytest.mark.parametrize("case", ["a model without codes", "codes that are not there", "codes of another shape"])
def test_codes_of_a_file_that_do_not_fit(lab, codes_lab, case):
    lab = lab if case == "a model without codes" else codes_lab
    z = torch.zeros(lab.latent.shape)
    indices = torch.zeros(8, 8, 3, dtype=torch.int64)
    if case == "codes that are not there":
        indices[0, 0, 0] = 16
    elif case == "codes of another shape":
        indices = indices[:3]
    ask(lab, "open", [safetensors.torch.save({"a": z, "a.indices": indices})], name="a.safetensors")
    assert lab.wait(LIMIT)
    heard = listen(lab)
    ask(lab, "edit", edits=[{"axis": next(iter(lab.space.axes)), "value": 0.5}])
    ask(lab, "undo")
    assert lab.wait(LIMIT)
    assert errors(heard) == []


@pytest.mark.parametrize("name", ["picture.jpg", "picture", "latents.pt", "png"])
def test_another_ending_is_refused(lab, tmp_path, name):
    with pytest.raises(UserError, match=r"\.png .*\.safetensors") as raised:
        lab.save(tmp_path / name)
    assert one_sentence(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_could_not_be_written_leaves_the_old_one(lab, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        lab.save(path)
    assert path.read_bytes() == b"old"


def test_the_last_picture_is_in_the_state_of_the_widget(lab):
    lab.latent = gaussian(5, 1, 1, seed=7)
    assert lab.wait(LIMIT)
    state = lab.get_state()["_picture"]
    picture = np.asarray(Image.open(io.BytesIO(state["decoded"]))).astype(int)
    assert np.abs(picture - decoded_one(lab, lab.latent)).max() <= 1
    assert state["original"] == b""
    lab.image = lab.images[1]
    assert lab.wait(LIMIT)
    state = lab.get_state()["_picture"]
    original = np.asarray(Image.open(io.BytesIO(state["original"]))).astype(int)
    assert np.array_equal(original, levels(lab.images[1]))
    np.testing.assert_allclose(state["coordinates"], lab.space.coordinates(lab.latent), atol=1e-6)


def test_what_a_notebook_keeps_is_escaped():
    name = "<script>alert('x')</script> & \"it\""
    bundle = still_bundle('key"><b>', b"\x89PNG", name)
    assert "<script>" not in bundle["text/html"]
    assert "<b>" not in bundle["text/html"]
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; &quot;it&quot;" in bundle["text/html"]
    assert bundle["text/plain"] == name
    assert bundle["image/png"] == "iVBORw=="
    assert 'src="data:image/png;base64,iVBORw=="' in bundle["text/html"]


def test_the_still_shows_original_picture_and_error():
    original = np.full((160, 160, 4), 255, np.uint8)
    decoded = original.copy()
    decoded[:80, :, 1] = 245
    sheet = np.asarray(Image.open(io.BytesIO(still(original, decoded))))
    assert sheet.shape[1] == 3 * 160 + 2 * 8
    tiles = [sheet[16:, i * 168 : i * 168 + 160] for i in range(3)]
    assert np.array_equal(tiles[0], original)
    assert np.array_equal(tiles[1], decoded)
    assert (tiles[2][:80, :, :3] == 40).all()  # four times 10
    assert (tiles[2][80:, :, :3] == 0).all()
    assert np.asarray(Image.open(io.BytesIO(still(None, decoded)))).shape[1] == 160
