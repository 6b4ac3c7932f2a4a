"""Requests of the front end that cannot be done: one sentence, and nothing changes."""

import pytest
import torch
from safetensors.torch import save

from support.tiny_lab import LIMIT, ask, errors, kinds, listen, one_sentence
from vae_plugin.widgets import rendering

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
