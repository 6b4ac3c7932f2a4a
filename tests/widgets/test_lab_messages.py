"""Messages that no panel sends: each is answered once, with a picture or one sentence, and the lab goes on."""

import copy
import io
import json
import random
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from support.tiny_lab import LIMIT, ask, errors, kinds, listen, one_sentence, open_lab

ROUNDS = 150  # messages to each lab
RAW = re.compile(r"^[A-Z]\w+: ")  # how the panel shows what is no sentence: the class of an error
WRONG = [
    None, True, False, "", "word", "\0", "\ud800", "9" * 5000, "~nobody/x.png", "/", [], {}, [[]], [None], {"a": {}},
    0, 1, -1, 2, 63, 10**6, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.0, -0.5, 1e10, -1e18, 1e300, 5e-324,
    float("nan"), float("inf"), -float("inf"), [float("nan")], [1, 2, 3], [["x"]] * 3, {"": 1}, {"\ud800": 1},
]  # fmt: skip
for _ in range(200):
    WRONG[-1] = [WRONG[-1]]  # nested deeply


def picture():
    file = io.BytesIO()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def requests(lab):
    """A good message of every kind, and its file."""
    axis, other, *_ = lab.space.axes
    keys = [item.key for item in lab.shelf]
    a, b, c = (keys * 3)[:3]
    shape = lab.latent.shape
    yield from (({"do": "reset"}, ()), ({"do": "undo"}, ()), ({"do": "code"}, ()), ({"do": "keep", "name": "x"}, ()))
    yield {"do": "edit", "edits": [{"axis": axis, "value": 1}, {"axis": other, "value": 0.5}], "gesture": "v:1"}, ()
    paint = {"cells": [[0, 0, 1], [3, 2, 0.5]], "channel": 0, "amount": 0.5}
    yield {"do": "edit", "edits": [{"paint": paint}], "gesture": "v:2"}, ()
    yield {"do": "edit", "edits": [{"paint": {"cells": [[0, 0, 1]], "from": "mean"}}]}, ()
    yield {"do": "edit", "edits": [{"paint": {"cells": [[0, 0, 1]], "from": a}}]}, ()
    yield {"do": "edit", "edits": [{"code": {"y": 1, "x": 2, "stage": 0, "code": 3}}]}, ()
    for operation in (
        {"op": "analogy", "a": a, "b": b, "c": c},
        {"op": "sum", "weights": {a: 0.5, b: -1}},
        {"op": "between", "a": a, "b": b, "t": 0.5, "method": "lerp"},
        {"op": "attribute", "with": [a], "without": [b], "strength": 0.5},
        {"op": "attribute", "label": "radius", "value": None, "strength": 0.5},
    ):
        yield {"do": "combine", "operation": operation, "gesture": "v:3"}, ()
    yield {"do": "bands", "bands": [0, 0, 0]}, ()
    yield from (({"do": "posterior", "seed": 3}, ()), ({"do": "pick", "index": 1}, ()))
    yield {"do": "open", "name": "a.png"}, [picture()]
    tensors = {"a": torch.zeros(shape), "a.indices": torch.zeros(*shape[1:], 3, dtype=torch.int64)}
    yield {"do": "open", "name": "a.safetensors"}, [save(tensors)]
    yield {"do": "path", "path": "/nowhere/a.png"}, ()
    yield from (({"do": "save", "what": what}, ()) for what in ("png", "latent", "shelf"))
    yield from (({"do": "take", "key": a}, ()), ({"do": "remove", "key": c}, ()))
    yield {"do": "rename", "key": a, "name": "y"}, ()
    yield {"do": "strip", "axis": axis, "low": -1, "high": 1, "steps": 3}, ()
    yield {"do": "strip", "a": a, "b": b, "method": "slerp", "steps": 3}, ()
    yield from (({"do": "prior", "source": source, "n": 2, "seed": 1}, ()) for source in ("prior", "data"))
    yield {"do": "manifold", "x": axis, "y": other, "ranges": [[-1, 1], [-1, 1]], "n": 2}, ()
    yield {"do": "palette", "y": 1, "x": 1, "stage": 0, "order": "near"}, ()
    yield {"do": "adopt", "sheet": "prior", "index": 0}, ()


def places(value, path=()):
    """Where something stands in a message."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield *path, key
        yield from places(item, (*path, key))


def mutated(message, chance):
    """The message with one or two values replaced, left out, doubled or added."""
    message = copy.deepcopy(message)
    for _ in range(chance.randint(1, 2)):
        *path, last = chance.choice(list(places(message)))
        holder = message
        for key in path:
            holder = holder[key]
        what = chance.random()
        if what < 0.7:
            holder[last] = copy.deepcopy(chance.choice(WRONG))
        elif what < 0.85:
            del holder[last]
        elif isinstance(holder, dict):
            holder[chance.choice(["axis", "from", "code", "label", "a", "x", ""])] = copy.deepcopy(chance.choice(WRONG))
        else:
            holder.append(holder[last])
        if not message:
            break
    return message


def damaged(buffers, chance):
    """The files of a message, some of them cut or with other bytes."""
    for data in buffers:
        what, at = chance.random(), chance.randrange(len(data))
        if what < 0.5:
            yield data
        elif what < 0.7:
            yield data[:at]
        else:
            yield data[:at] + bytes(chance.randrange(256) for _ in range(4)) + data[at + 4 :]


def check_messages(heard):
    for content, _ in heard:
        json.dumps(content, allow_nan=False).encode()
        json.dumps(content, allow_nan=False, ensure_ascii=False).encode()
    for text in errors(heard):
        assert one_sentence(text), text
        assert not RAW.match(text), text
        assert len(text) < 1000, text


@pytest.mark.parametrize("model", ["mlp", "conv", "rvq"])
def test_any_message_is_answered_once(model, monkeypatch):
    answer_messages(model, monkeypatch, ROUNDS, seed=0)


def answer_messages(model, monkeypatch, rounds, seed):
    chance = random.Random(f"{model} {seed}")
    with open_lab(model, max_images=4) as lab:
        heard = listen(lab)
        monkeypatch.setattr(lab, "send", lambda content, buffers=None: heard.append((content, list(buffers or ()))))
        for number in range(rounds):
            if number % 25 == 0:
                lab.shelf = [lab.images[0].new_zeros(lab.latent.shape) + i for i in range(3)]
                ask(lab, "pick", index=0)
                assert lab.wait(LIMIT)
            content, buffers = chance.choice(list(requests(lab)))
            content = mutated(content, chance)
            del heard[:]
            lab._panel.receive({"view": "v", "id": number, **content}, list(damaged(buffers, chance)))
            assert lab.wait(LIMIT)
            check_messages(heard)
            answers = kinds(heard, number)
            assert answers, content
            assert answers == [answers[0]] * len(answers), content  # a sheet comes in parts
            assert (answers[0] == "dropped") == bool(errors(heard)), content
            assert torch.isfinite(lab.latent).all()
            assert lab.latent.shape == lab._session.codec.latent_shape
        json.dumps(lab.get_state(), default=lambda value: len(value), allow_nan=False, ensure_ascii=False).encode()
        del heard[:]
        done = ask(lab, "pick", index=1)
        assert lab.wait(LIMIT)
        assert kinds(heard, done) == ["frame"]
        assert errors(heard) == []


@pytest.fixture(scope="module")
def lab():
    with open_lab("mlp", max_images=3) as lab:
        yield lab


@pytest.mark.parametrize(
    "content", [None, 7, "edit", [], [{"do": "undo"}], {}, {"do": 7}, {"do": None}, {"do": ["edit"]}]
)
def test_what_is_no_request_is_one_sentence(lab, content):
    heard = listen(lab)
    lab._panel.receive(content, [])
    check_messages(heard)
    assert len(errors(heard)) == 1


@pytest.mark.parametrize("field", ["view", "id", "turn", "first", "gesture", "loopback"])
def test_any_header_leaves_the_lab_in_order(lab, field):
    heard = listen(lab)
    for value in copy.deepcopy(WRONG):
        lab._panel.receive({"do": "pick", "view": "w", "id": 1, "index": 0, field: value}, [])
    assert lab.wait(LIMIT)
    check_messages(heard)
    done = ask(lab, "pick", index=1)
    assert lab.wait(LIMIT)
    assert kinds(heard, done) == ["frame"]


def test_a_bad_message_keeps_its_turn(lab):
    heard = listen(lab)
    for number, index in enumerate([0, float("nan"), 1], 1):
        lab._panel.receive(
            {"do": "pick", "view": "t", "id": number, "turn": number, "first": number == 1, "index": index}, []
        )
    assert lab.wait(LIMIT)
    assert [kinds(heard, number) for number in (1, 2, 3)] == [["frame"], ["dropped"], ["frame"]]
    assert errors(heard) == ["index is nan: give a number from -1e+18 to 1e+18."]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_observer_that_exits_does_not_end_the_work(lab):
    def leave(_):
        raise SystemExit

    lab.observe(leave, "image")
    try:
        with pytest.raises(SystemExit):
            lab.latent = torch.ones(6, 1, 1)
        lab._session.open_from_set(0)
        assert lab.wait(LIMIT)
    finally:
        lab.unobserve(leave, "image")
    heard = listen(lab)
    done = ask(lab, "pick", index=1)
    assert lab.wait(LIMIT)
    assert kinds(heard, done) == ["frame"]


def test_a_shelf_has_an_end(lab):
    lab.shelf = []
    heard = listen(lab)
    many = save({str(i): torch.zeros(6, 1, 1) for i in range(1001)})
    ask(lab, "open", [many], name="a.safetensors")
    assert errors(heard) == ["1,001 latents are too many for a shelf: keep 1,000 at most."]
    assert lab.shelf == ()
