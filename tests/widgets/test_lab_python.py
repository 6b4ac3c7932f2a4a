"""A lab from Python: what is read, set, observed and saved."""

import io
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from support.tiny_lab import LIMIT, ask, errors, levels, listen, one_sentence, open_lab, shown
from vae_plugin.errors import UserError
from vae_plugin.widgets import LatentLab, Saved, Shelf
from vae_plugin.widgets.pictures import still, still_bundle


@pytest.fixture(scope="module")
def one_lab():
    with open_lab(max_images=6) as lab:
        yield lab


@pytest.fixture
def lab(one_lab):
    one_lab.shelf = []
    ask(one_lab, "pick", index=0)
    assert one_lab.wait(LIMIT)
    return one_lab


@pytest.fixture(scope="module")
def codes_lab():
    with open_lab("rvq", max_images=4) as lab:
        yield lab


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def decoded(lab, z):
    with torch.no_grad():
        return levels(lab.model.decode(z.float().reshape(1, *lab.latent.shape)).sample[0])


# --- the latent ---


@pytest.mark.parametrize(
    "form",
    [
        lambda z: z,
        lambda z: z[None],
        lambda z: z.flatten(),
        lambda z: z.double(),
        lambda z: z.clone().requires_grad_(),
        lambda z: z.numpy(),
        lambda z: z.tolist(),
        lambda z: z.flatten().tolist(),
    ],
)
def test_a_latent_is_set_and_shown(lab, form):
    z = gaussian(5, 1, 1)
    lab.latent = form(z)
    assert torch.equal(lab.latent, z)
    assert lab.latent.dtype == torch.float32
    assert np.abs(shown(lab) - decoded(lab, z)).max() <= 1  # at once, without waiting


def test_a_latent_that_was_set_is_a_copy(lab):
    z = gaussian(5, 1, 1)
    lab.latent = z
    z.zero_()
    assert lab.latent.abs().max() > 0.1


def test_what_is_read_is_an_ordinary_tensor(lab):
    assert not lab.latent.is_inference()
    assert not lab.encode(lab.images[0]).is_inference()
    lab.model.decode(lab.latent[None]).sample.sum().backward()  # its gradient is that of the model alone
    lab.model.zero_grad()
    z = lab.encode(lab.images[0])
    z[0] += 1


def test_observers_hear_of_each_change_once(lab):
    seen, pictures = [], []

    def latent_changed(change):
        seen.append(change["new"].flatten().tolist())

    def image_changed(change):
        pictures.append(change["new"])

    lab.observe(latent_changed, "latent")
    lab.observe(image_changed, "image")
    try:
        lab.latent = gaussian(5, 1, 1, seed=1)
        assert lab.wait(LIMIT)
        assert seen == [gaussian(5, 1, 1, seed=1).flatten().tolist()]
        assert len(pictures) == 1
        ask(lab, "edit", edits=[{"axis": "dim 0", "value": 1.5}])
        assert lab.wait(LIMIT)
        assert len(seen) == 2
        assert seen[1][0] == 1.5
        assert pictures[-1] is lab.image
        lab.image = lab.load(lab.images[1])
        assert lab.wait(LIMIT)
        assert len(seen) == 3
        assert len(pictures) == 3
    finally:
        lab.unobserve(latent_changed, "latent")
        lab.unobserve(image_changed, "image")


def test_an_observer_of_the_picture_may_set_the_latent(lab):
    done = threading.Event()

    def follow(_):
        if not done.is_set():
            done.set()
            lab.latent = torch.ones(5, 1, 1)

    lab.observe(follow, "image")
    try:
        ask(lab, "edit", edits=[{"axis": "dim 0", "value": -1.5}])
        assert lab.wait(LIMIT)
    finally:
        lab.unobserve(follow, "image")
    assert torch.equal(lab.latent, torch.ones(5, 1, 1))
    assert np.abs(shown(lab) - decoded(lab, torch.ones(5))).max() <= 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.zeros(7, 1, 1), "(7, 1, 1)"),
        (torch.zeros(2, 5, 1, 1), "(2, 5, 1, 1)"),
        (torch.zeros(5, 1, 1, dtype=torch.int64), "int64"),
        (torch.zeros(5, 1, 1, dtype=torch.complex64), "complex64"),
        (torch.full((5, 1, 1), float("nan")), "not finite"),
        (torch.full((5, 1, 1), float("inf")), "not finite"),
        ("a latent", "str"),
        (None, "NoneType"),
        ([[1.0], [1.0, 2.0]], "list"),
        (3.0, "()"),
    ],
)
def test_a_wrong_latent_changes_nothing(lab, value, words):
    latent, state, image = lab.latent, lab._session.state, lab.image
    with pytest.raises(UserError) as raised:
        lab.latent = value
    assert words in str(raised.value)
    assert one_sentence(raised.value)
    assert lab.latent is latent
    assert lab._session.state is state
    assert lab.wait(LIMIT)
    assert lab.image is image
    with pytest.raises(UserError):
        lab.decode(value)


# --- the image ---


def test_an_image_is_set_and_encoded(lab):
    array = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    lab.image = array
    x = torch.from_numpy(array / 127.5 - 1).permute(2, 0, 1).float()
    with torch.no_grad():
        z = lab.model.encode(x[None]).latent_dist.mode()[0]
    torch.testing.assert_close(lab.latent, z, rtol=0, atol=1e-5)
    torch.testing.assert_close(lab.encode(array), z, rtol=0, atol=1e-5)
    assert np.array_equal(np.asarray(lab.original), array)
    picture = decoded(lab, z)  # what the lab shows is the reconstruction, not what it was given
    assert np.abs(shown(lab) - picture).max() <= 1
    assert lab.image.size == (32, 32)
    assert np.abs(np.asarray(lab.decode(lab.latent)).astype(int) - picture).max() <= 1
    assert lab.wait(LIMIT)
    assert np.abs(shown(lab) - picture).max() <= 1


@pytest.mark.parametrize(
    "value", [np.full((32, 32, 3), 300.0), "nowhere.png", 7, torch.zeros(2, 3, 32, 32), b"garbage", None]
)
def test_a_wrong_image_changes_nothing(lab, value):
    image, state = lab.image, lab._session.state
    with pytest.raises(UserError) as raised:
        lab.image = value
    assert one_sentence(raised.value)
    assert lab.image is image
    assert lab._session.state is state


def test_encode_and_decode_show_nothing(lab):
    state, image = lab._session.state, lab.image
    z = lab.encode(lab.images[2])
    lab.decode(z)
    lab.decode(z.flatten())
    assert lab.wait(LIMIT)
    assert lab._session.state is state
    assert lab.image is image


def test_a_sample_of_the_posterior(lab):
    with torch.no_grad():
        q = lab.model.encode(lab.images[2][None]).latent_dist
        wanted = q.sample(torch.Generator().manual_seed(5))[0]
    torch.testing.assert_close(lab.encode(lab.images[2], seed=5), wanted, rtol=0, atol=1e-5)


def test_codes_can_be_read(codes_lab):
    with torch.no_grad():
        wanted = codes_lab.model.encode(codes_lab.images[0][None]).indices[0]
    ask(codes_lab, "pick", index=0)
    assert codes_lab.wait(LIMIT)
    assert torch.equal(codes_lab.indices, wanted)
    assert codes_lab.indices.shape == (8, 8, 3)


def test_there_are_no_codes_without_a_codebook(lab):
    assert lab.indices is None


# --- the shelf ---


def test_the_shelf_is_set_by_name_and_by_number(lab):
    a, b = gaussian(5, 1, 1), gaussian(5, 1, 1, seed=1)
    lab.shelf = {"cat": a, "dog": b.flatten()}
    assert isinstance(lab.shelf, Shelf)
    assert lab.shelf.names == ["cat", "dog"]
    assert torch.equal(lab.shelf["dog"].latent, b)
    assert torch.equal(lab.shelf[0].latent, a)
    assert torch.equal(lab.shelf[-1].latent, b)
    assert repr(lab.shelf[0]) == "Saved('cat', latent (5, 1, 1))"
    lab.shelf = [a, lab.shelf["dog"], Saved("third", a)]
    assert lab.shelf.names == ["latent 0", "dog", "third"]
    with pytest.raises(KeyError, match=r"'cow' is not on the shelf: there are 'latent 0', 'dog', 'third'\."):
        lab.shelf["cow"]
    with pytest.raises(IndexError):
        lab.shelf[3]
    assert lab.shelf.by_key(lab.shelf[1].key) is lab.shelf[1]
    lab.shelf = []
    with pytest.raises(KeyError, match="there are none"):
        lab.shelf["cat"]


def test_names_and_keys_on_a_shelf_are_unique(lab):
    for _ in range(3):
        lab.keep("one")
    lab.keep()
    lab.keep()
    lab.shelf = [*lab.shelf, Saved("one (2)", gaussian(5, 1, 1)), lab.shelf[0]]
    names, keys = lab.shelf.names, [item.key for item in lab.shelf]
    assert names[:3] == ["one", "one (2)", "one (3)"]
    assert len(set(names)) == len(names) == 7
    assert len(set(keys)) == len(keys)


def test_what_is_kept_stays_as_it_is(lab):
    item = lab.keep("before")
    z = lab.latent.clone()
    ask(lab, "edit", edits=[{"axis": "dim 0", "value": 9}])
    assert torch.equal(lab.shelf["before"].latent, z)
    assert lab.shelf["before"] is item
    assert lab.keep().name == "image 0 edited"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (7, "int"),
        ("cat", "str"),
        ([torch.zeros(3)], "(3,)"),
        ({"a": torch.full((5, 1, 1), float("nan"))}, "not finite"),
        ({"a": torch.zeros(5, 1, 1), "b": "z"}, "str"),
        ([Saved("a", torch.zeros(3))], "(3,)"),
        ([Saved("a", torch.zeros(5, 1, 1, dtype=torch.int64))], "int64"),
    ],
)
def test_a_wrong_shelf_changes_nothing(lab, value, words):
    lab.keep("a")
    shelf = lab.shelf
    with pytest.raises(UserError) as raised:
        lab.shelf = value
    assert words in str(raised.value)
    assert one_sentence(raised.value)
    assert lab.shelf is shelf
    assert lab._session.keeper.shelf is shelf
    assert [entry["name"] for entry in lab.get_state()["_shelf"]] == ["a"]


# --- files ---


def test_the_picture_is_saved(lab, tmp_path):
    assert lab.save(tmp_path / "picture.png") == tmp_path / "picture.png"
    picture = np.asarray(Image.open(tmp_path / "picture.png")).astype(int)
    assert np.abs(picture - decoded(lab, lab.latent)).max() <= 1
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


# --- what stays in a notebook ---


def test_the_last_picture_is_in_the_state_of_the_widget(lab):
    lab.latent = gaussian(5, 1, 1, seed=7)
    assert lab.wait(LIMIT)
    state = lab.get_state()["_picture"]
    picture = np.asarray(Image.open(io.BytesIO(state["decoded"]))).astype(int)
    assert np.abs(picture - decoded(lab, lab.latent)).max() <= 1
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


# --- more than one, and the end ---


def test_two_labs_are_independent():
    with open_lab("mlp", max_images=4) as first, open_lab("mlp", max_images=4) as second:
        before = second.latent
        first.latent = torch.ones(6, 1, 1)
        first.keep("one")
        assert second.latent is before
        assert second.shelf == ()
        assert first.get_state()["_lab"] != second.get_state()["_lab"]
        second.latent = -torch.ones(6, 1, 1)
        assert torch.equal(first.latent, torch.ones(6, 1, 1))
        first.close()
        second.latent = torch.zeros(6, 1, 1)
        assert np.abs(shown(second) - decoded(second, torch.zeros(6))).max() <= 1


def test_close_ends_the_thread():
    with open_lab("mlp", max_images=4) as lab:
        lab._session.worker.request(lambda: None).result(LIMIT)
        thread = lab._session.worker._thread
        assert thread.is_alive()
        lab.close()
        assert not thread.is_alive()
        assert lab.comm is None
        assert lab.wait(1)
        with pytest.raises(RuntimeError, match="closed"):
            lab.latent = torch.zeros(6, 1, 1)
        lab.close()


def test_statistics_are_waited_for():
    lab = LatentLab(max_images=9)
    try:
        assert len(lab.space.means) == 9
    finally:
        lab.close()


def test_images_can_be_read(lab):
    assert len(lab.images) == 6
    assert lab.images[0].shape == (3, 32, 32)
    assert set(lab.labels) == {"x", "y", "radius", "hue"}
    assert len(lab.labels["radius"].values) == 6


@pytest.mark.parametrize("name", ["cow", "radius"])
def test_a_group_that_is_not_there(lab, name):
    if name == "radius":
        assert len(lab.group("radius")) == 3
        return
    with pytest.raises(UserError, match="x, y, radius, hue") as raised:
        lab.group(name)
    assert one_sentence(raised.value)
