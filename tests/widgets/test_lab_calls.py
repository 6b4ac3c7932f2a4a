"""Calls of a lab from Python with arguments of every wrong kind: each is a sentence, and the lab goes on."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.tiny_lab import LIMIT, ask, errors, kinds, listen, open_lab, tiny
from vae_plugin.errors import UserError
from vae_plugin.widgets import LatentLab, Saved

SHAPE = (6, 1, 1)
LATENT, PICTURE = torch.ones(SHAPE), torch.zeros(3, 16, 16)


def nested(tensor):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a prototype of torch
        return torch.nested.nested_tensor([tensor] * 3)


def variants(tensor):
    yield from (tensor, tensor[None], tensor.flatten(), tensor[:0], tensor.double() * 1e300, tensor.half() * 2)
    yield from (tensor.to(torch.float8_e4m3fn), tensor.to(torch.complex64), tensor.long(), tensor.bool(), tensor.byte())
    yield from (tensor.to("meta"), tensor.to_sparse(), nested(tensor))
    yield from (tensor * float("nan"), tensor * 3e38 + 3e38)
    yield from (tensor.numpy(), tensor.numpy().astype(object), tensor.numpy().astype("M8[s]"), tensor.tolist())


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Some of the wrong paths are names of files that can be written."""
    monkeypatch.chdir(tmp_path)


WRONG = [
    None, True, -1, 0, 3, 2**64, 10**400, 10**5000, 0.5, float("nan"), float("inf"), 1e300, 1j, "", "word", "\0",
    "\ud800", "9" * 5000, "~nobody-of-that-name/x.png", Path("\0"), b"", b"x", memoryview(b"x"), [], [None], [[]], {},
    {"a": None}, {None: LATENT}, {"\ud800": LATENT}, (1, 2), set(), object(), range(3), iter([1]), lambda: 1, slice(1),
    torch.tensor(1.0), np.float32(1), np.int64(3), np.array("x"), np.array([None]), np.zeros((1,) * 5),
    np.zeros((4, 4, 0), np.uint8), np.ma.masked_array([1.0], [True]), Image.new("RGB", (4, 4)),
    Image.new("RGB", (0, 4)), Image.new("F", (4, 4)), {"bytes": b"x"}, {"bytes": 7}, {"path": 7}, {"a": [1, 2]},
    [Saved("a", LATENT)], [Saved("a", LATENT, torch.zeros(1, 1, 1, dtype=torch.long))], *variants(LATENT),
    *variants(PICTURE),
]  # fmt: skip


@pytest.fixture(scope="module")
def lab():
    with open_lab("mlp", max_images=3) as lab:
        yield lab


def calls(lab):
    """Functions of one argument."""
    space, axis = lab.space, next(iter(lab.space.axes))
    return {
        "latent": lambda value: setattr(lab, "latent", value),
        "image": lambda value: setattr(lab, "image", value),
        "shelf": lambda value: setattr(lab, "shelf", value),
        "encode": lab.encode,
        "encode seed": lambda value: lab.encode(lab.images[0], seed=value),
        "decode": lab.decode,
        "load": lab.load,
        "group": lab.group,
        "group value": lambda value: lab.group("radius", value),
        "group inside": lambda value: lab.group("radius", inside=value),
        "keep": lab.keep,
        "save": lambda value: lab.save(value),
        "wait": lambda value: lab.wait(0 if value is None else value),
        "images": lambda value: lab.images[value],
        "shelf item": lambda value: lab.shelf[value],
        "by_key": lambda value: lab.shelf.by_key(value),
        "Saved name": lambda value: Saved(value, LATENT),
        "Saved latent": lambda value: Saved("a", value),
        "Saved indices": lambda value: Saved("a", LATENT, value),
        "move": lambda value: space.move(value, axis, 0.5),
        "move axis": lambda value: space.move(LATENT, value, 0.5),
        "move value": lambda value: space.move(LATENT, "direction 1", value),
        "coordinates": space.coordinates,
        "coordinate": lambda value: space.coordinate(value, axis),
        "sample": lambda value: space.sample(value, torch.Generator()),
        "sample generator": lambda value: space.sample(2, value),
    }


def sentence_of(function, *arguments, **options):
    """What a refused call says; any error but a UserError is a failure, except those of any Python sequence."""
    try:
        function(*arguments, **options)
    except UserError as error:
        text = str(error)
        assert len(text.split()) > 3, text
        assert "\n" not in text, text
        return text
    except (IndexError, KeyError):
        assert function.__code__.co_names[-1] in ("images", "shelf")  # [...] of a sequence or by a name
    return None


def test_a_wrong_argument_is_a_sentence(lab):
    for name, function in calls(lab).items():
        refused = [value for value in WRONG if sentence_of(function, value) is not None]
        assert len(refused) > 20, name
        assert lab.wait(LIMIT)
        assert torch.isfinite(lab.latent).all()
    heard = listen(lab)
    done = ask(lab, "pick", index=1)
    assert lab.wait(LIMIT)
    assert (kinds(heard, done), errors(heard)) == (["frame"], [])


LABELS = [
    "abc", 7, {"a": 7}, {"a": "abc"}, {"a": {1, 2, 3}}, {"a": {"x": 1, "y": 2, "z": 3}}, {"a": [10**400, 1, 2]},
    {"a": [torch.zeros(2)] * 3}, {"a": np.zeros((3, 2))}, np.array(1), nested(LATENT),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(LABELS)))
def test_wrong_labels_are_a_sentence(number):
    assert sentence_of(LatentLab, tiny("mlp"), [PICTURE] * 3, labels=LABELS[number])


@pytest.mark.parametrize("name", ["model", "images", "resolution", "max_images"])
def test_what_opens_no_lab_is_a_sentence(name):
    model = tiny("mlp")
    wrong = ["\0", "~nobody-of-that-name/x", "9" * 5000, 7.5, -1, 10**400, object(), {}, iter([1]), nested(PICTURE)]
    given = {"model": model, "images": [PICTURE], "resolution": 16}
    for value in wrong[1:] if name != "images" else [*wrong[1:], nested(PICTURE), np.array(1)]:
        if name == "images" and isinstance(value, np.ndarray):
            continue
        assert sentence_of(LatentLab, **{**given, name: value}), value


def test_labels_of_any_sequence_are_taken():
    for values in ([1, 2, 3], np.arange(3), torch.arange(3), [torch.tensor(1)] * 3, [None, "a", 1j]):
        with open_lab("mlp", [PICTURE] * 3, labels={"a": values}) as lab:
            assert len(lab.labels["a"].values) == 3


def test_latents_too_large_for_statistics_are_said():
    model = tiny("mlp")
    with torch.no_grad():
        list(model.encoder.parameters())[-1].add_(1e30)
    with open_lab(model, max_images=3) as lab, pytest.raises(UserError, match="too large to calculate with"):
        lab.space  # noqa: B018 - what is raised


def test_the_front_end_cannot_set_the_state_of_the_lab(lab):
    before = {name: lab.get_state()[name] for name in ("_shelf", "_progress", "_info", "_esm")}
    state = {"_shelf": 7, "_progress": [5, 5], "_info": {}, "_esm": "alert(1)"}
    lab._handle_msg({"content": {"data": {"method": "update", "state": state, "buffer_paths": []}}, "buffers": []})
    assert {name: lab.get_state()[name] for name in before} == before


@pytest.mark.parametrize("kind", ["F4", "F8_E8M0", "C64", "U16", "BOOL", "X"])
def test_a_file_of_latents_of_another_type_is_a_sentence(lab, kind):
    bits = {"F4": 4, "C64": 64, "U16": 16}.get(kind, 8)
    header = json.dumps({"a": {"dtype": kind, "shape": SHAPE, "data_offsets": [0, 6 * bits // 8]}}).encode()
    heard = listen(lab)
    ask(lab, "open", [len(header).to_bytes(8, "little") + header + bytes(6 * bits // 8)], name="a.safetensors")
    [text] = errors(heard)
    assert text.startswith("this file ")
