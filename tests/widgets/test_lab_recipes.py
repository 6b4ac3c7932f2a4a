"""The Python that a lab shows, run: it makes the lab's latent and picture again, with every kind of model."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from support.tiny_lab import LIMIT, MODELS, ask, errors, listen, open_lab, shown, tiny
from vae_plugin.datasets import Circles
from vae_plugin.widgets.recipe import ChosenCode, Expression, Line, Move, Paint, Recipe
from vae_plugin.widgets.script import ModelCode, script

DISCRETE = ("ema", "rvq", "fsq", "VQModel")
CERTAIN = (*DISCRETE, "AutoencoderTiny", "AutoencoderTinyFlux2", "AutoencoderDC", "AutoencoderRAE")


# The others are of a kind with one of these.
TYPICAL = (
    "conv",
    "mlp",
    "ema",
    "rvq",
    "AutoencoderTiny",
    "AutoencoderKLWan",
    "AutoencoderKLHunyuanImageRefiner",
    "AutoencoderRAE",
)
EVERY = [pytest.param(name, marks=[pytest.mark.slow] * (name not in TYPICAL)) for name in MODELS]


@pytest.fixture(scope="module", params=EVERY)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def one_lab(name):
    with open_lab(name) as lab:
        yield lab


@pytest.fixture
def lab(one_lab):
    """A lab that shows its first image, with an empty shelf."""
    one_lab.shelf = []
    ask(one_lab, "pick", index=0)
    assert one_lab.wait(LIMIT)
    return one_lab


def check_that_the_code_repeats(lab, tolerance=0.0):
    assert lab.wait(LIMIT)
    names = {"lab": lab}
    exec(lab.code, names)
    torch.testing.assert_close(names["z"], lab.latent, rtol=0, atol=tolerance)
    assert np.abs(np.asarray(names["picture"].convert("RGB")).astype(int) - shown(lab)).max() <= bool(tolerance)
    return names


def edit(lab, *edits, gesture=None):
    heard = listen(lab)
    ask(lab, "edit", edits=list(edits), gesture=gesture)
    assert errors(heard) == []


def axis(lab, group, n=0):
    return [key for key, axis in lab.space.axes.items() if axis.group == group][n]


def chain_of_changes(lab):
    first = axis(lab, "dimensions" if lab.latent.shape[1] == 1 else "channels")
    for i in range(3):
        edit(lab, {"axis": first, "value": 0.5 + i / 3}, gesture=1)
    edit(lab, {"axis": "direction 2", "value": -0.7}, {"axis": "direction 1", "value": 0.5})
    edit(lab, {"axis": axis(lab, "labels"), "value": 0.3})
    edit(lab, {"axis": "direction 2", "value": 0.7})
    edit(lab, {"axis": axis(lab, "labels", 1), "value": 0.4}, {"axis": first, "value": -0.2})
    if lab.latent.shape[1] > 1:
        for amount in (0.7, 0.31234567):
            cells = [[0, 1, 1.0], [2, 2, 0.5], [2, 2, 0.25], [99, 0, 1.0]]
            edit(lab, {"paint": {"cells": cells, "channel": 0, "amount": amount}})
        edit(lab, {"paint": {"cells": [[99, 99, 1.0]], "channel": 1, "amount": 1.0}})
        edit(lab, {"paint": {"cells": [[3, 3, 1.0], [3, 4, 1.0]], "from": "mean"}})
        edit(lab, {"paint": {"cells": [[99, 99, 1.0]], "from": "mean"}})


def test_after_a_chain_of_changes(lab):
    check_that_the_code_repeats(lab)
    before = lab.latent
    chain_of_changes(lab)
    assert not torch.allclose(lab.latent, before, atol=1e-2)
    check_that_the_code_repeats(lab)


def test_after_codes_were_chosen(lab, name):
    if name not in DISCRETE:
        pytest.skip("no codes")
    chain_of_changes(lab)
    stages = lab._session.codec.indices_per_position
    for y, x, code in ((1, 2, 3), (0, 0, 5), (1, 2, 7)):
        edit(lab, {"code": {"y": y, "x": x, "stage": stages - 1, "code": code}})
    indices = lab.indices
    assert indices.reshape(*indices.shape[:2], -1)[1, 2, -1] == 7
    assert indices.reshape(*indices.shape[:2], -1)[0, 0, -1] == 5
    check_that_the_code_repeats(lab)
    edit(lab, {"axis": "direction 1", "value": 0.1})
    check_that_the_code_repeats(lab)


def test_after_chosen_codes_were_kept_and_taken(lab, name):
    if name not in DISCRETE:
        pytest.skip("no codes")
    edit(lab, {"code": {"y": 1, "x": 2, "stage": 0, "code": 3}})
    item = lab.keep("codes")
    assert lab.wait(LIMIT)
    picture = shown(lab)
    ask(lab, "pick", index=1)
    assert lab.wait(LIMIT)
    ask(lab, "take", key=item.key)
    assert lab.wait(LIMIT)
    assert np.array_equal(shown(lab), picture)
    check_that_the_code_repeats(lab)
    edit(lab, {"code": {"y": 0, "x": 0, "stage": 0, "code": 1}})
    check_that_the_code_repeats(lab)


def test_a_sample_of_the_posterior(lab, name):
    heard = listen(lab)
    ask(lab, "posterior", seed=3)
    assert (errors(heard) != []) == (name in CERTAIN)
    edit(lab, {"axis": "direction 1", "value": 0.1})
    check_that_the_code_repeats(lab)


OPERATIONS = {
    "analogy": lambda a, b, c: {"op": "analogy", "a": a, "b": b, "c": c},
    "sum": lambda a, b, c: {"op": "sum", "weights": {a: 0.5, b: -0.25, c: 1}},
    "slerp": lambda a, b, c: {"op": "between", "a": a, "b": b, "t": 0.3, "method": "slerp"},
    "lerp": lambda a, b, c: {"op": "between", "a": a, "b": b, "t": 0.3, "method": "lerp"},
    "attribute": lambda a, b, c: {"op": "attribute", "with": [a, b], "without": [c], "strength": 0.5},
}


def test_arithmetic_on_the_shelf(lab):
    keys = []
    for i, name in enumerate(["plain", 'it\'s {0} {lab} "quoted"\n', "ünï {"]):
        ask(lab, "pick", index=i)
        assert lab.wait(LIMIT)
        keys.append(lab.keep(name).key)
    for word, operation in OPERATIONS.items():
        heard = listen(lab)
        ask(lab, "combine", operation=operation(*keys))
        assert errors(heard) == [], word
        check_that_the_code_repeats(lab)
    edit(lab, {"axis": "direction 1", "value": 0.5})
    check_that_the_code_repeats(lab)
    if lab.latent.shape[1] > 1:
        edit(lab, {"paint": {"cells": [[1, 1, 1.0], [2, 3, 1.0]], "from": keys[1]}})
        check_that_the_code_repeats(lab)
    ask(lab, "take", key=keys[1])
    ask(lab, "rename", key=keys[1], name="another {name}'s")
    check_that_the_code_repeats(lab)


@pytest.mark.parametrize("source", ["prior", "data"])
def test_a_sample_from_a_sheet(lab, name, source):
    listen(lab)
    ask(lab, "prior", n=3, seed=4, source=source)
    assert lab.wait(LIMIT)
    ask(lab, "adopt", sheet="prior", index=2)
    check_that_the_code_repeats(lab)
    if name in DISCRETE:
        edit(lab, {"code": {"y": 1, "x": 2, "stage": 0, "code": 3}})
        check_that_the_code_repeats(lab)


def test_a_picture_of_a_strip(lab):
    chain_of_changes(lab)
    ask(lab, "strip", axis="direction 1", low=-2, high=2, steps=5)
    assert lab.wait(LIMIT)
    ask(lab, "adopt", sheet="strip", index=3)
    assert lab.space.coordinate(lab.latent, "direction 1") == pytest.approx(1, abs=1e-4)
    check_that_the_code_repeats(lab)


def test_a_latent_that_was_set_from_python(lab):
    lab.latent = torch.randn(lab.latent.shape, generator=torch.Generator().manual_seed(0))
    check_that_the_code_repeats(lab)
    chain_of_changes(lab)
    check_that_the_code_repeats(lab)


def test_an_image_that_was_set_from_python(lab):
    lab.image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    check_that_the_code_repeats(lab)
    ask(lab, "strip", axis="direction 1", low=-2, high=2, steps=3)
    assert lab.wait(LIMIT)
    ask(lab, "adopt", sheet="strip", index=2)
    check_that_the_code_repeats(lab)


# --- of one model ---


def test_an_image_of_floats_that_was_set_from_python():
    with open_lab("conv") as lab:
        lab.image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
        check_that_the_code_repeats(lab)


NAMES = ["it's.png", '"quoted".png', "{0} {lab} {}.png", "back\\slash.png", "ünï ☃.png", "#'''.png"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files_are_safe(name, tmp_path, monkeypatch):
    path = tmp_path / name
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())
    monkeypatch.chdir(tmp_path)  # a file that was dropped is known by its name only
    with open_lab("conv", max_images=3) as lab:
        wanted = lab.encode(path)
        for do in (
            lambda: setattr(lab, "image", path),
            lambda: setattr(lab, "image", Image.open(path)),
            lambda: ask(lab, "path", path=str(path)),
            lambda: ask(lab, "open", [buffer.getvalue()], name=name),
        ):
            ask(lab, "pick", index=0)
            assert lab.wait(LIMIT)
            do()
            names = check_that_the_code_repeats(lab)
            torch.testing.assert_close(names["z"], wanted, rtol=0, atol=1e-5)


def test_names_of_labels_are_safe():
    words = ["it's", "{0}", 'a "b" {lab}', "back\\slash"]
    labels = {"kind's {x}": [words[i % 4] for i in range(12)], "size {": [i / 7 for i in range(12)]}
    with open_lab("mlp", Circles(12, 16, 3, hue=True), labels=labels) as lab:
        for word in words:
            before = lab.latent
            ask(lab, "combine", operation={"op": "attribute", "label": "kind's {x}", "value": word, "strength": 2})
            rows = torch.tensor([w == word for w in labels["kind's {x}"]])
            means = torch.stack([lab.encode(image) for image in lab.images])
            wanted = before + 2 * (means[rows].mean(0) - means[~rows].mean(0))
            torch.testing.assert_close(lab.latent, wanted, rtol=0, atol=1e-5)
            check_that_the_code_repeats(lab)
        ask(lab, "combine", operation={"op": "attribute", "label": "size {"})
        check_that_the_code_repeats(lab)
        edit(lab, {"axis": "label kind's {x}: {0}", "value": 1.0})
        check_that_the_code_repeats(lab)


def test_a_side_that_is_no_multiple_of_the_spatial_compression_ratio():
    with open_lab("conv", resolution=15) as lab:
        assert lab.image.size == (15, 15)
        chain_of_changes(lab)
        check_that_the_code_repeats(lab)


def test_images_in_another_range():
    model = tiny("ema")
    model.set_image_range(0, 1)
    with open_lab(model) as lab:
        chain_of_changes(lab)
        check_that_the_code_repeats(lab)


def test_half_precision():
    with open_lab(tiny("conv").to(torch.bfloat16)) as lab:
        chain_of_changes(lab)
        check_that_the_code_repeats(lab)
        ask(lab, "posterior", seed=3)
        check_that_the_code_repeats(lab, 0.02)  # diffusers draws in the model's precision, of 8 bits


def test_code_of_a_latent_that_left_the_shelf():
    with open_lab("conv") as lab:
        keys = [lab.keep(name).key for name in ("a", "b")]
        ask(lab, "combine", operation={"op": "sum", "weights": dict.fromkeys(keys, 0.5)})
        lab.shelf = []
        check_that_the_code_repeats(lab)


def test_a_drag_is_one_line():
    with open_lab("mlp") as lab:
        for i in range(20):
            edit(lab, {"axis": "dim 3", "value": i / 10}, {"axis": "direction 1", "value": i / 20}, gesture=1)
            edit(lab, {"axis": "dim 2", "value": i / 10}, gesture=2)
            edit(lab, {"axis": "dim 3", "value": i / 10}, gesture=3)
        last = lab.code.splitlines()
        assert len([line for line in last if "z[2] = 1.9" in line]) == 1
        check_that_the_code_repeats(lab)


MODEL = ModelCode(
    Expression("model"), "decode(z)", Expression("show(image)"), "indices(z)", "codes(ids)", "decode(ids)"
)


def body(*steps):
    recipe, z = Recipe(), torch.zeros(8, 3, 3)
    for step in steps:
        if isinstance(step, (Line, ChosenCode)):
            recipe = recipe.then(step)
        else:
            recipe, z = recipe.calculate(step, z)
    lines = script(recipe, MODEL).splitlines()
    return [line.strip() for line in lines[lines.index("with torch.no_grad():") + 1 :]]


def test_only_what_counts_is_written():
    start = Line("z = start")
    moves = body(start, Move("dim 1", 0.5), Move("dim 2", 1.0), Move("dim 1", 0.75))
    assert moves[1:-2] == ["z[2] = 1.0", "z[1] = 0.75"]
    # Another group between them: the order counts, and so does each.
    assert len(body(start, Move("dim 1", 0.5), Move("channel 1", 1.0), Move("dim 1", 0.75))) == 6
    assert body(start, Paint(0, {(1, 2): 0.5}), Paint(0, {(1, 2): 0.25, (0, 0): 1.0}))[1:-2] == [
        "z[0, [1, 0], [2, 0]] += torch.tensor([0.75, 1.0])"
    ]
    assert len(body(start, Paint(0, {(1, 2): 0.5}), Paint(1, {(1, 2): 0.5}))) == 5
    assert body(start, ChosenCode(0, 1, -1, 5), ChosenCode(2, 1, -1, 6), ChosenCode(0, 1, -1, 7)) == [
        "z = start",
        "ids = indices(z)",
        "ids[2, 1] = 6",
        "ids[0, 1] = 7",
        "z = codes(ids)",
        "image = decode(ids)  # (1, C, H, W)",
        "picture = show(image)",
    ]


def test_a_drag_is_calculated_from_where_it_began():
    """Not step by step, whose rounding the one line that is written would not repeat."""
    z = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(0))
    recipe, moved = Recipe((Line("z = start"),)), z
    for i in range(100):
        recipe, moved = recipe.calculate(Move("channel 1", i / 7), moved)
    wanted = z.clone()
    wanted[1] += 99 / 7 - wanted[1].mean()
    assert len(recipe.steps) == 2
    assert torch.equal(moved, wanted)


def test_a_latent_with_a_long_history_is_written_by_its_numbers():
    """The size of the code does not grow without end when results are kept and calculated with again and again."""
    with open_lab("conv") as lab:
        for _ in range(300):
            a, b = lab.keep("a").key, lab.keep("b").key
            ask(lab, "combine", operation={"op": "between", "a": a, "b": b, "t": 0.5})
            lab.shelf = []
        assert lab.wait(LIMIT)
        assert len(lab.code.splitlines()) < 500
        check_that_the_code_repeats(lab)
