"""A lab from Python: what is read, set, observed and saved."""

import threading

import numpy as np
import pytest
import torch

from support.lab_session import decoded_one, gaussian
from support.tiny_lab import LIMIT, ask, one_sentence, open_lab, shown
from vae_plugin.errors import UserError
from vae_plugin.widgets import LatentLab, Saved, Shelf

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
    assert np.abs(shown(lab) - decoded_one(lab, z)).max() <= 1  # at once, without waiting


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
    assert np.abs(shown(lab) - decoded_one(lab, torch.ones(5))).max() <= 1


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
    picture = decoded_one(lab, z)  # what the lab shows is the reconstruction, not what it was given
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
        assert np.abs(shown(second) - decoded_one(second, torch.zeros(6))).max() <= 1


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
