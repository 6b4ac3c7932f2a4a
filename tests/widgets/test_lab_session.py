"""A lab's conversation with its front end: edits, undo, arithmetic, errors, and pictures that keep up with a drag."""

import json
import math
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch.nn import functional as F

from support.tiny_lab import LIMIT, ask, errors, kinds, levels, listen, one_sentence, open_lab, shown, tiny
from vae_plugin.widgets import rendering
from vae_plugin.widgets.codec import Codec, Superseded


@pytest.fixture(scope="module")
def flat_lab():
    with open_lab(max_images=24) as lab:
        yield lab


@pytest.fixture(scope="module")
def spatial_lab():
    with open_lab("AutoencoderKL", resolution=32) as lab:
        yield lab


@pytest.fixture(scope="module")
def code_lab():
    with open_lab("rvq") as lab:
        yield lab


@pytest.fixture(scope="module")
def fsq_lab():
    with open_lab("fsq") as lab:
        yield lab


def fresh(lab):
    lab.shelf = []
    ask(lab, "pick", index=0)
    assert lab.wait(LIMIT)
    return lab


@pytest.fixture
def flat(flat_lab):
    return fresh(flat_lab)


@pytest.fixture
def spatial(spatial_lab):
    return fresh(spatial_lab)


@pytest.fixture
def code(code_lab):
    return fresh(code_lab)


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def saved(lab, n=3):
    """Keys of n latents on the shelf, and the latents."""
    latents = [gaussian(*lab.latent.shape, seed=i) for i in range(n)]
    lab.shelf = {f"latent {i}": z for i, z in enumerate(latents)}
    return [item.key for item in lab.shelf], [z.double().numpy() for z in latents]


@contextmanager
def busy(lab):
    """The lab's thread does something else all the while."""
    begun, over = threading.Event(), threading.Event()
    lab._session.worker.request(lambda: (begun.set(), over.wait(LIMIT)))
    assert begun.wait(LIMIT)
    try:
        yield
    finally:
        over.set()


def close(z, wanted, tolerance=1e-5):
    np.testing.assert_allclose(z.numpy(), wanted, rtol=0, atol=tolerance)


# --- edits ---


def test_a_slider(flat):
    before = flat.latent.clone()
    heard = listen(flat)
    number = ask(flat, "edit", edits=[{"axis": "dim 3", "value": 1.25}, {"axis": "dim 1", "value": -1}])
    assert flat.wait(LIMIT)
    wanted = before.numpy().copy()
    wanted[3], wanted[1] = 1.25, -1
    close(flat.latent, wanted, 0)
    assert kinds(heard, number) == ["frame"]
    [(content, buffers)] = [message for message in heard if message[0].get("id") == number]
    with torch.no_grad():
        picture = levels(flat.model.decode(torch.from_numpy(wanted)[None]).sample[0])
    pixels = np.frombuffer(buffers[0], np.uint8).reshape(32, 32, 4)
    assert content["format"] == "rgba"
    assert content["size"] == [32, 32]
    assert np.abs(pixels[..., :3].astype(int) - picture).max() <= 1
    assert (pixels[..., 3] == 255).all()
    coordinates = dict(zip(flat.space.axes, content["coordinates"], strict=True))
    assert (coordinates["dim 3"], coordinates["dim 1"]) == (1.25, -1)


def test_a_brush_adds_to_one_channel(spatial):
    wanted = spatial.latent.numpy().copy()
    cells = [[0, 0, 1.0], [3, 2, 0.5], [3, 2, 0.25], [15, 15, 1.0], [-1, 0, 1.0], [0, 16, 1.0]]
    ask(spatial, "edit", edits=[{"paint": {"cells": cells, "channel": 2, "amount": 0.8}}])
    wanted[2, 0, 0] += 0.8
    wanted[2, 3, 2] += 0.6
    wanted[2, 15, 15] += 0.8
    close(spatial.latent, wanted, 1e-6)


def test_a_brush_copies_all_channels(spatial):
    keys, latents = saved(spatial)
    wanted = spatial.latent.numpy().copy()
    ask(spatial, "edit", edits=[{"paint": {"cells": [[1, 2, 1.0], [4, 4, 0.2], [99, 0, 1.0]], "from": keys[1]}}])
    ask(spatial, "edit", edits=[{"paint": {"cells": [[6, 7, 1.0]], "from": "mean"}}])
    wanted[:, 1, 2], wanted[:, 4, 4] = latents[1][:, 1, 2], latents[1][:, 4, 4]
    means = np.stack([spatial.encode(image).numpy() for image in spatial.images])
    wanted[:, 6, 7] = means.mean(0)[:, 6, 7]
    close(spatial.latent, wanted)


def test_a_chosen_code_is_decoded(code):
    quantizer = code.model.quantizer
    with torch.no_grad():
        _, indices, _ = quantizer(code.latent[None].clone(), update=False)
    indices = indices.clone()
    heard = listen(code)
    number = ask(code, "edit", edits=[{"code": {"y": 1, "x": 2, "stage": 1, "code": 5}}])
    assert code.wait(LIMIT)
    indices[0, 1, 2, 1] = 5
    assert torch.equal(code.indices, indices[0])
    with torch.no_grad():
        close(code.latent, quantizer.indices_to_codes(indices)[0].numpy())
        picture = levels(code.model.decode_indices(indices)[0])
    assert np.abs(shown(code) - picture).max() <= 1
    [(content, buffers)] = [message for message in heard if message[0].get("id") == number]
    sent = np.frombuffer(buffers[content["indices"]], np.int32).reshape(indices.shape[1:])
    assert np.array_equal(sent, indices[0].numpy())
    grid = np.frombuffer(buffers[content["grid"]], np.float32).reshape(code.latent.shape)
    assert np.array_equal(grid, code.latent.numpy())


# --- undo ---


def test_a_drag_is_undone_as_one(flat):
    start = flat.latent
    for i in range(10):
        ask(flat, "edit", edits=[{"axis": "dim 0", "value": i / 10}], gesture="v:1")
    after_first = flat.latent
    for i in range(10):
        ask(flat, "edit", edits=[{"axis": "dim 0", "value": -i / 10}], gesture="v:2")
    ask(flat, "edit", edits=[{"axis": "dim 1", "value": 1}])
    ask(flat, "edit", edits=[{"axis": "dim 1", "value": 2}])
    for wanted in (1.0, None, after_first, start):
        flat.undo()
        if isinstance(wanted, float):
            assert flat.latent[1].item() == wanted
        elif wanted is not None:
            assert torch.equal(flat.latent, wanted)
    assert flat.wait(LIMIT)
    with torch.no_grad():
        picture = levels(flat.model.decode(start[None].clone()).sample[0])
    assert np.abs(shown(flat) - picture).max() <= 1


def test_the_same_drag_goes_on_after_undo_as_another(flat):
    start = flat.latent
    ask(flat, "edit", edits=[{"axis": "dim 0", "value": 1}], gesture="v:9")
    ask(flat, "undo")
    ask(flat, "edit", edits=[{"axis": "dim 0", "value": 2}], gesture="v:9")
    ask(flat, "undo")
    assert torch.equal(flat.latent, start)


def test_undo_brings_back_the_original_and_the_codes(code):
    original = np.asarray(code.original)
    ask(code, "edit", edits=[{"code": {"y": 0, "x": 0, "stage": 0, "code": 3}}])
    indices = code.indices
    code.latent = torch.zeros_like(code.latent)
    assert code.original is None
    code.undo()
    assert torch.equal(code.indices, indices)
    assert np.array_equal(np.asarray(code.original), original)


def test_undo_ends_at_the_beginning():
    with open_lab("mlp", max_images=3) as lab:
        heard = listen(lab)
        for _ in range(3):
            ask(lab, "undo")
        assert lab.wait(LIMIT)
        assert errors(heard)[-1] == "there is nothing to undo."


def test_reset_is_what_the_encoder_said(flat):
    encoded = flat.encode(flat.images[0])
    ask(flat, "edit", edits=[{"axis": "dim 0", "value": 3}])
    ask(flat, "reset")
    close(flat.latent, encoded.numpy())
    flat.latent = torch.zeros_like(flat.latent)
    ask(flat, "reset")
    means = np.stack([flat.encode(image).numpy() for image in flat.images])
    close(flat.latent, means.mean(0))


def test_a_sample_of_the_posterior(flat):
    with torch.no_grad():
        q = flat.model.encode(flat.images[0][None]).latent_dist
    ask(flat, "posterior", seed=11)
    close(flat.latent, q.sample(torch.Generator().manual_seed(11))[0].numpy())
    close(flat.encode(flat.images[0], seed=11), flat.latent.numpy())
    ask(flat, "posterior", seed=None)
    close(flat.latent, q.mean[0].numpy())


# --- arithmetic ---


def test_analogy(spatial):
    keys, (a, b, c) = saved(spatial)
    ask(spatial, "combine", operation={"op": "analogy", **dict(zip("abc", keys, strict=True))})
    close(spatial.latent, a - b + c)


def test_weighted_sum(spatial):
    keys, (a, _, c) = saved(spatial)
    weights = dict(zip(keys, (0.5, 0, -1.5), strict=True))
    ask(spatial, "combine", operation={"op": "sum", "weights": weights})
    close(spatial.latent, 0.5 * a - 1.5 * c)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_between_on_a_line(spatial, t):
    keys, (a, b, _) = saved(spatial)
    ask(spatial, "combine", operation={"op": "between", "a": keys[0], "b": keys[1], "t": t, "method": "lerp"})
    close(spatial.latent, (1 - t) * a + t * b)


@pytest.mark.parametrize("lab", ["flat", "spatial"])
def test_between_on_a_sphere(lab, request):
    lab = request.getfixturevalue(lab)
    keys, (a, b, _) = saved(lab)
    t = 0.3
    ask(lab, "combine", operation={"op": "between", "a": keys[0], "b": keys[1], "t": t, "method": "slerp"})
    wanted = np.empty_like(a)
    for y in range(a.shape[1]):
        for x in range(a.shape[2]):
            u, v = a[:, y, x], b[:, y, x]
            m, n = np.linalg.norm(u), np.linalg.norm(v)
            angle = math.acos(u @ v / m / n)
            on_sphere = math.sin((1 - t) * angle) * u / m + math.sin(t * angle) * v / n
            wanted[:, y, x] = on_sphere / math.sin(angle) * ((1 - t) * m + t * n)
    close(lab.latent, wanted, 1e-4)


def test_an_attribute_is_added_to_the_latent_before_the_drag(spatial):
    keys, (a, b, c) = saved(spatial)
    base = spatial.latent.numpy().copy()
    for strength in (0.5, 1.0, -2.0):
        operation = {"op": "attribute", "with": keys[:2], "without": keys[2:], "strength": strength}
        ask(spatial, "combine", operation=operation, gesture="v:77")
        close(spatial.latent, base + strength * ((a + b) / 2 - c))
    ask(spatial, "combine", operation={**operation, "strength": 1.0}, gesture="v:78")
    close(spatial.latent, base - 1.0 * ((a + b) / 2 - c))
    spatial.undo()
    spatial.undo()
    close(spatial.latent, base, 0)


def test_an_attribute_of_the_data(flat):
    base = flat.latent.numpy().copy()
    radius = flat.labels["radius"].values
    means = np.stack([flat.encode(image).numpy() for image in flat.images])
    large = radius > np.sort(radius)[(len(radius) - 1) // 2]
    ask(flat, "combine", operation={"op": "attribute", "label": "radius", "strength": 1.5})
    close(flat.latent, base + 1.5 * (means[large].mean(0) - means[~large].mean(0)))
    close(flat.group("radius"), means[large])
    close(flat.group("radius", inside=False), means[~large])


# --- sheets ---


def pictures(heard, name):
    """Of the last sheet of that name, all pictures (N, H, W, 4)."""
    parts = [(content, buffers) for content, buffers in heard if content.get("sheet") == name]
    parts = [part for part in parts if part[0]["number"] == parts[-1][0]["number"]]
    width, height = parts[0][0]["size"]
    found = [np.frombuffer(buffers[0], np.uint8).reshape(-1, height, width, 4) for _, buffers in parts]
    assert [content["first"] for content, _ in parts] == list(np.cumsum([0, *map(len, found[:-1])]))
    assert sum(map(len, found)) == parts[0][0]["total"]
    return np.concatenate(found)[..., :3].astype(int)


def decoded(lab, latents):
    with torch.no_grad():
        return [levels(image) for image in lab.model.decode(latents.float()).sample]


def test_a_strip_along_an_axis(flat):
    heard = listen(flat)
    number = ask(flat, "strip", axis="dim 2", low=-2, high=2, steps=11)
    assert flat.wait(LIMIT)
    latents = flat.latent.repeat(11, 1, 1, 1)
    latents[:, 2, 0, 0] = torch.linspace(-2, 2, 11)
    found = pictures(heard, "strip")
    assert len(found) == 11
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(found, decoded(flat, latents), strict=True))
    assert set(kinds(heard, number)) == {"sheet"}


def test_a_strip_between_two(flat):
    keys, (a, b, _) = saved(flat)
    heard = listen(flat)
    ask(flat, "strip", a=keys[0], b=keys[1], steps=5, method="lerp")
    assert flat.wait(LIMIT)
    latents = torch.stack([torch.from_numpy((1 - t) * a + t * b) for t in np.linspace(0, 1, 5)])
    found = pictures(heard, "strip")
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(found, decoded(flat, latents), strict=True))


def test_samples_of_the_prior(flat):
    heard = listen(flat)
    ask(flat, "prior", n=9, seed=3)
    assert flat.wait(LIMIT)
    latents = torch.randn(9, *flat.latent.shape, generator=torch.Generator().manual_seed(3))
    found = pictures(heard, "prior")
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(found, decoded(flat, latents), strict=True))
    ask(flat, "adopt", sheet="prior", index=7)
    assert torch.equal(flat.latent, latents[7])


def test_a_plane_of_the_space(flat):
    heard = listen(flat)
    ask(flat, "manifold", x="dim 0", y="dim 4", ranges=[[-2, 2], [-1, 1]], n=4)
    assert flat.wait(LIMIT)
    latents = flat.latent.repeat(16, 1, 1, 1)
    for i in range(16):  # from the upper left, at the middles of the squares
        latents[i, 0], latents[i, 4] = [-1.5, -0.5, 0.5, 1.5][i % 4], [0.75, 0.25, -0.25, -0.75][i // 4]
    found = pictures(heard, "manifold")
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(found, decoded(flat, latents), strict=True))


def test_the_codes_to_choose_from(fsq_lab):
    lab = fresh(fsq_lab)
    heard = listen(lab)
    ask(lab, "palette", y=3, x=4, stage=0)
    assert lab.wait(LIMIT)
    [content] = [content for content, _ in heard if content.get("sheet") == "palette" and content["first"] == 0]
    quantizer = lab.model.quantizer
    size = quantizer.codebook_size
    with torch.no_grad():
        every = quantizer.indices_to_codes(torch.arange(size).view(1, 1, -1))[0, :, 0].double().numpy()
    present = int(lab.indices[3, 4])
    distances = np.linalg.norm(every - every[:, present : present + 1], axis=0)
    assert content["codes"][0] == present
    found = distances[content["codes"]]
    assert (np.diff(found) > -1e-6).all()
    np.testing.assert_allclose(found, np.sort(distances)[: len(found)], atol=1e-5)
    assert len(pictures(heard, "palette")) == min(size, 96)
    ask(lab, "palette", y=3, x=4, stage=0, order="number")
    assert lab.wait(LIMIT)
    codes = [content["codes"] for content, _ in heard if content.get("sheet") == "palette"][-1]
    assert codes == list(range(min(size, 96)))


def test_each_of_several_sheets_is_answered(flat):
    heard = listen(flat)
    with busy(flat):
        numbers = [ask(flat, "prior", n=4, seed=seed) for seed in range(3)]
    assert flat.wait(LIMIT)
    assert [kinds(heard, number) for number in numbers] == [["dropped"], ["dropped"], ["sheet"]]


# --- what cannot be done ---

NAN, INF = float("nan"), float("inf")
GARBAGE = b"neither an image nor anything else"
BAD = {
    "unknown": {"do": "nonsense"},
    "nothing": {"do": None},
    "no edits": {"do": "edit"},
    "no axis": {"do": "edit", "edits": [{"axis": "dim 99", "value": 1}]},
    "half": {"do": "edit", "edits": [{"axis": "dim 0", "value": 9}, {"axis": "nope", "value": 1}]},
    "no value": {"do": "edit", "edits": [{"axis": "dim 0"}]},
    "null": {"do": "edit", "edits": [{"axis": "dim 0", "value": None}]},
    "nan": {"do": "edit", "edits": [{"axis": "dim 0", "value": NAN}]},
    "infinite": {"do": "edit", "edits": [{"axis": "direction 1", "value": INF}]},
    "an edit of another kind": {"do": "edit", "edits": [{"colour": "red"}]},
    "no channel": {"do": "edit", "edits": [{"paint": {"cells": [[0, 0, 1]], "channel": 99, "amount": 1}}]},
    "cells": {"do": "edit", "edits": [{"paint": {"cells": [[0]], "channel": 0, "amount": 1}}]},
    "paint from nothing": {"do": "edit", "edits": [{"paint": {"cells": [[0, 0, 1]], "from": "s0"}}]},
    "no codes": {"do": "edit", "edits": [{"code": {"y": 0, "x": 0, "stage": 0, "code": 0}}]},
    "analogy": {"do": "combine", "operation": {"op": "analogy", "a": "s0", "b": "s0", "c": "s0"}},
    "operation": {"do": "combine", "operation": {"op": "product"}},
    "empty sum": {"do": "combine", "operation": {"op": "sum", "weights": {}}},
    "attribute": {"do": "combine", "operation": {"op": "attribute", "with": [], "without": []}},
    "label": {"do": "combine", "operation": {"op": "attribute", "label": "age"}},
    "pick": {"do": "pick", "index": 10**6},
    "pick before the first": {"do": "pick", "index": -1},
    "take": {"do": "take", "key": "s0"},
    "seed": {"do": "posterior", "seed": "x"},
    "no file": {"do": "open"},
    "no path": {"do": "path", "path": " "},
    "another path": {"do": "path", "path": "/nowhere/at/all.png"},
    "garbage": {"do": "open", "name": "a.png", "buffers": [GARBAGE]},
    "garbage tensors": {"do": "open", "name": "a.safetensors", "buffers": [GARBAGE]},
    "tensors of another shape": {"do": "open", "name": "a.safetensors", "buffers": [save({"a": torch.zeros(3)})]},
    "tensors that are not finite": {
        "do": "open",
        "name": "a.safetensors",
        "buffers": [save({"a": torch.full((5, 1, 1), NAN)})],
    },
    "save": {"do": "save", "what": "everything"},
    "strip": {"do": "strip", "axis": "nope", "low": 0, "high": 1},
    "strip between": {"do": "strip", "a": "s0", "b": "s0"},
    "prior": {"do": "prior", "source": "moon"},
    "adopt": {"do": "adopt", "sheet": "moon", "index": 0},
    "manifold": {"do": "manifold", "x": "nope", "y": "dim 0", "ranges": [[0, 1], [0, 1]]},
    "palette": {"do": "palette", "y": 0, "x": 0, "stage": 0},
    "rename": {"do": "rename", "key": "s0", "name": " \n"},
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_message_is_dropped_with_one_sentence_and_changes_nothing(flat, name):
    content = dict(BAD[name])
    flat.keep("a")
    state, shelf, history = flat._session.state, flat.shelf, list(flat._session.history._past)
    heard = listen(flat)
    number = ask(flat, content.pop("do"), content.pop("buffers", ()), **content)
    assert flat.wait(LIMIT)
    assert kinds(heard, number) == ["dropped"]
    [text] = errors(heard)
    assert text
    assert "\n" not in text
    assert flat._session.state is state
    assert flat.shelf is shelf
    assert flat._session.history._past == history


@pytest.mark.parametrize(
    "choice",
    [
        {"y": 0, "x": 0, "stage": 0, "code": 16},
        {"y": 0, "x": 0, "stage": 3, "code": 0},
        {"y": 8, "x": 0, "stage": 0, "code": 0},
        {"y": 0, "x": -1, "stage": 0, "code": 0},
        {"y": 0, "x": 0, "stage": 0, "code": -1},
    ],
)
def test_a_code_that_is_not_there(code, choice):
    state, heard = code._session.state, listen(code)
    ask(code, "edit", edits=[{"code": choice}])
    assert len(errors(heard)) == 1
    assert one_sentence(errors(heard)[0])
    assert code._session.state is state


@pytest.mark.parametrize("at_once", [1.0, 0.0])
def test_a_decoder_that_fails_is_answered(flat, monkeypatch, at_once):
    monkeypatch.setattr(rendering, "AT_ONCE", at_once)

    def no_memory(*_, **__):
        raise RuntimeError("CUDA out of memory\nand a long explanation")

    heard = listen(flat)
    with monkeypatch.context() as patch:
        patch.setattr(flat.model, "decode", no_memory)
        number = ask(flat, "edit", edits=[{"axis": "dim 0", "value": 1}])
        assert flat.wait(LIMIT)
    assert errors(heard) == ["RuntimeError: CUDA out of memory"]
    assert kinds(heard, number) == ["dropped"]
    number = ask(flat, "edit", edits=[{"axis": "dim 0", "value": 2}])
    assert flat.wait(LIMIT)
    assert kinds(heard, number) == ["frame"]


def test_an_observer_that_fails_is_told_and_the_request_answered_once(flat):
    def observer(_):
        raise ValueError("of the user")

    heard = listen(flat)
    flat.observe(observer, ["latent", "image"])
    try:
        number = ask(flat, "edit", edits=[{"axis": "dim 0", "value": 1.5}])
        assert flat.wait(LIMIT)
    finally:
        flat.unobserve(observer, ["latent", "image"])
    assert kinds(heard, number) == ["frame"]
    assert set(errors(heard)) == {"ValueError: of the user"}
    assert flat.latent[0].item() == 1.5


# --- pace ---


@pytest.mark.parametrize("at_once", [math.inf, 0.0])
def test_many_fast_edits_end_on_the_last(flat, monkeypatch, at_once):
    monkeypatch.setattr(rendering, "AT_ONCE", at_once)  # in the kernel's thread, or in the lab's
    heard = listen(flat)
    n = 500 if at_once == 0 else 100
    numbers = [ask(flat, "edit", edits=[{"axis": "dim 0", "value": i / n}], gesture="v:1") for i in range(n)]
    assert flat.wait(LIMIT)
    answers = [kinds(heard, number) for number in numbers]
    assert set(map(tuple, answers)) <= {("frame",), ("dropped",)}  # each once
    assert answers[-1] == ["frame"]
    frames = [content for content, _ in heard if content["kind"] == "frame"]
    values = [dict(zip(flat.space.axes, frame["coordinates"], strict=True))["dim 0"] for frame in frames]
    assert values == sorted(values)
    assert values[-1] == pytest.approx((n - 1) / n)
    assert flat.latent[0].item() == pytest.approx((n - 1) / n)
    with torch.no_grad():
        picture = levels(flat.model.decode(flat.latent[None].clone()).sample[0])
    assert np.abs(shown(flat) - picture).max() <= 1


def test_a_fast_decoder_shows_every_edit_while_the_worker_is_idle(flat, monkeypatch):
    monkeypatch.setattr(rendering, "AT_ONCE", math.inf)
    monkeypatch.setattr(flat._session.worker, "settle", lambda work, seconds: None)  # nothing to do in between
    heard = listen(flat)
    numbers = [ask(flat, "edit", edits=[{"axis": "dim 0", "value": i / 50}], gesture="v:1") for i in range(50)]
    assert [kinds(heard, number) for number in numbers] == [["frame"]] * 50  # at once, without waiting


def test_a_drag_on_a_busy_worker_shows_one_picture(flat):
    heard = listen(flat)
    with busy(flat):
        numbers = [ask(flat, "edit", edits=[{"axis": "dim 0", "value": i / 50}], gesture="v:1") for i in range(50)]
    assert flat.wait(LIMIT)
    assert [kinds(heard, number) for number in numbers] == [["dropped"]] * 49 + [["frame"]]


def test_a_slow_decoder_shows_a_smaller_picture_first(spatial, monkeypatch):
    monkeypatch.setattr(spatial._session.codec, "decode_seconds", 0.2)
    heard = listen(spatial)
    number = ask(spatial, "edit", edits=[{"axis": "channel 0", "value": 0.5}])
    assert spatial.wait(LIMIT)
    frames = [(content, buffers) for content, buffers in heard if content["kind"] == "frame"]
    assert [content["preview"] for content, _ in frames] == [True, False]
    assert [content["size"] for content, _ in frames] == [[16, 16], [32, 32]]
    assert kinds(heard, number) == ["frame"]
    assert frames[0][0]["id"] == number
    with torch.no_grad():
        small = levels(spatial.model.decode(F.avg_pool2d(spatial.latent[None], 2)).sample[0])
        full = levels(spatial.model.decode(spatial.latent[None].clone()).sample[0])
    for (_, buffers), wanted in zip(frames, (small, full), strict=True):
        pixels = np.frombuffer(buffers[0], np.uint8).reshape(*wanted.shape[:2], 4)
        assert np.abs(pixels[..., :3].astype(int) - wanted).max() <= 1
    assert np.abs(shown(spatial) - full).max() <= 1


def test_a_full_picture_is_given_up_for_a_newer_request(spatial, monkeypatch):
    codec = spatial._session.codec
    monkeypatch.setattr(codec, "decode_seconds", 1.0)
    heard, sides = listen(spatial), []

    def on_way(_, inputs):
        sides.append(inputs[0].shape[-1])
        if sides.count(16) == 1 and sides[-1] == 16:  # the first full picture has begun
            ask(spatial, "edit", edits=[{"axis": "channel 0", "value": 0.75}])

    hook = spatial.model.decoder.conv_in.register_forward_pre_hook(on_way)
    try:
        ask(spatial, "edit", edits=[{"axis": "channel 0", "value": 0.25}])
        assert spatial.wait(LIMIT)
    finally:
        hook.remove()
    frames = [content for content, _ in heard if content["kind"] == "frame"]
    assert [frame["preview"] for frame in frames] == [True, True, False]
    values = [dict(zip(spatial.space.axes, frame["coordinates"], strict=True))["channel 0"] for frame in frames]
    assert values == pytest.approx([0.25, 0.75, 0.75], abs=1e-5)
    assert errors(heard) == []


def test_a_slow_decoder_stops_between_its_layers():
    model = tiny("AutoencoderKL")
    codec = Codec(model, 16)
    z, done = torch.zeros(codec.latent_shape), []
    layers = [module for module in model.decoder.modules() if not any(module.children())]
    hooks = [layer.register_forward_hook(lambda *_: done.append(1)) for layer in layers]
    codec.decode_full(z, None, lambda: True)  # not known to be slow
    every = len(done)
    done.clear()
    codec.decode_seconds = 1.0
    with pytest.raises(Superseded):
        codec.decode_full(z, None, lambda: len(done) == 5)
    assert len(done) == 5 < every
    assert codec.decode_seconds == 1.0
    done.clear()
    image = codec.decode_full(z, None, lambda: False)
    assert len(done) == every
    with torch.no_grad():
        torch.testing.assert_close(image, model.decode(z[None]).sample[0])
    for hook in hooks:
        hook.remove()
    assert all(not layer._forward_pre_hooks for layer in layers)


def test_a_small_picture_says_how_it_was_made(spatial):
    codec = spatial._session.codec
    z = gaussian(*codec.latent_shape)
    indices = None
    for shrink in (2, 4):
        with torch.no_grad():
            wanted = spatial.model.decode(F.avg_pool2d(z[None], shrink)).sample[0]
        torch.testing.assert_close(codec.decode_preview(z, indices, shrink), wanted, rtol=1e-4, atol=1e-4)


# --- what is measured and sent ---


def test_the_facts_of_a_picture(flat):
    heard = listen(flat)
    ask(flat, "pick", index=2)
    assert flat.wait(LIMIT)
    [(content, buffers)] = [message for message in heard if message[0]["kind"] == "frame"]
    x = flat.images[2]
    with torch.no_grad():
        q = flat.model.encode(x[None]).latent_dist
        y = levels(flat.model.decode(q.mean).sample[0])
    mse = np.square(levels(x) - y).mean()
    assert content["facts"]["psnr"] == pytest.approx(10 * math.log10(255**2 / mse), abs=0.05)
    mean, std = q.mean.double(), q.std.double()
    kl = (0.5 * (mean.square() + std.square() - 1) - std.log()).sum().item()
    assert content["facts"]["kl"] == pytest.approx(kl, rel=1e-4)
    assert not content["facts"]["edited"]
    assert content["original"] == "rgba"
    original = np.frombuffer(buffers[1], np.uint8).reshape(32, 32, 4)
    assert np.array_equal(original[..., :3].astype(int), levels(x))


def test_the_original_is_sent_once(flat):
    heard = listen(flat)
    ask(flat, "pick", index=1)
    assert flat.wait(LIMIT)
    ask(flat, "edit", edits=[{"axis": "dim 0", "value": 1}])
    assert flat.wait(LIMIT)
    flat.latent = torch.zeros_like(flat.latent)
    assert flat.wait(LIMIT)
    frames = [content for content, _ in heard if content["kind"] == "frame"]
    assert [frame.get("original") for frame in frames][:2] == ["rgba", None]
    assert [frame["original"] for frame in frames[2:] if "original" in frame] == ["none"]


def test_what_a_new_view_finds(flat):
    ask(flat, "edit", edits=[{"axis": "dim 0", "value": 1}])
    flat.keep("one")
    assert flat.wait(LIMIT)
    state = flat.get_state()
    assert state["_info"]["latent"] == [5, 1, 1]
    assert state["_progress"] == [24, 24]
    assert [axis["key"] for axis in state["_space"]["axes"]] == list(flat.space.axes)
    points = np.frombuffer(state["_points"], np.float32).reshape(24, len(flat.space.axes))
    close(torch.from_numpy(points.copy()), flat.space.points.numpy(), 0)
    [item] = state["_shelf"]
    assert item["name"] == "one"
    assert item["norm"] == pytest.approx(flat.latent.norm().item(), abs=1e-3)
    assert state["_thumbnails"]["rows"] == list(range(24))
    for name in ("_info", "_space", "_progress"):
        json.dumps(state[name], allow_nan=False)


def test_labels_with_gaps_are_sent_as_json():
    with open_lab("mlp", [torch.zeros(3, 16, 16)] * 3, labels={"age": [0.5, NAN, 2.5]}) as lab:
        json.dumps(lab.get_state()["_info"], allow_nan=False)


def test_requests_about_the_shelf(flat):
    heard = listen(flat)
    number = ask(flat, "keep", name="  two\nwords ")
    assert kinds(heard, number) == ["reply"]
    assert flat.shelf.names == ["two words"]
    key = flat.shelf[0].key
    assert heard[-1][0]["key"] == key
    ask(flat, "keep", name="two words")
    assert flat.shelf.names == ["two words", "two words (2)"]
    ask(flat, "rename", key=key, name="first")
    assert flat.shelf.names == ["first", "two words (2)"]
    assert flat.shelf[0].key == key
    ask(flat, "remove", key=key)
    assert flat.shelf.names == ["two words (2)"]
    number = ask(flat, "code")
    [content] = [content for content, _ in heard if content.get("id") == number]
    assert content["text"] == flat.code
    assert errors(heard) == []
