"""What a lab measures of a picture, and what it sends to its front end."""

import json
import math

import numpy as np
import pytest
import torch

from support.lab_session import close
from support.tiny_lab import LIMIT, ask, errors, kinds, levels, listen, open_lab


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
    with open_lab("mlp", [torch.zeros(3, 16, 16)] * 3, labels={"age": [0.5, math.nan, 2.5]}) as lab:
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
