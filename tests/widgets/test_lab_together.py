"""Labs and images together: operands that are images, selections, and labs that are linked."""

from __future__ import annotations

import pytest
import torch

from support.tiny_lab import LIMIT, ask, errors, kinds, listen, open_lab, tiny
from vae_plugin.errors import UserError
from vae_plugin.latents import analogy, slerp

IMAGES = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def lab():
    with open_lab(tiny("conv"), IMAGES) as lab:
        yield lab


@pytest.fixture
def other():
    torch.manual_seed(1)
    with open_lab(tiny("conv"), IMAGES) as lab:
        yield lab


def sheet(lab, name):
    return lab._panel._sheets._sheets[name]


def test_images_are_operands_without_a_shelf_and_the_code_repeats_it(lab):
    a, b, c = (lab.encode(IMAGES[i]) for i in (0, 3, 5))
    heard = listen(lab)
    operation = {"op": "analogy", "a": "image:0", "b": "image:3", "c": "image:5"}
    number = ask(lab, "combine", operation=operation)
    assert lab.wait(LIMIT)
    assert kinds(heard, number) == ["frame"]
    assert torch.allclose(lab.latent, analogy(a, b, c), atol=1e-5)
    scope = {"lab": lab}
    exec(lab.code, scope)
    assert torch.equal(scope["z"], lab.latent)
    assert lab.encoded(3).name == "image 3"
    with pytest.raises(UserError, match="image 9 was not encoded"):
        lab.encoded(9)


@pytest.mark.parametrize("key", ["image:9", "image:", "image:-1", "image:1e0", "image:٣", "image:99999999999999"])
def test_a_key_of_no_image_is_refused_in_one_sentence(lab, key):
    before = lab.latent
    heard = listen(lab)
    ask(lab, "combine", operation={"op": "between", "a": key, "b": "image:0"})
    assert lab.wait(LIMIT)
    assert len(errors(heard)) == 1
    assert torch.equal(lab.latent, before)


def test_results_are_drawn_and_change_nothing(lab):
    before = lab.latent
    heard = listen(lab)
    operations = [{"op": "between", "a": "image:1", "b": "image:2", "t": t} for t in (0.25, 1.0)]
    number = ask(lab, "results", operations=operations)
    assert lab.wait(LIMIT)
    assert set(kinds(heard, number)) == {"sheet"}
    a, b = (lab.encode(IMAGES[i]) for i in (1, 2))
    expected = torch.stack([slerp(a, b, 0.25), slerp(a, b, 1.0)])
    assert torch.allclose(sheet(lab, "results").latents, expected, atol=1e-5)
    assert torch.equal(lab.latent, before)


def test_the_ends_of_sliders_and_several_strips_are_moves_along_their_axes(lab):
    keys = list(lab.space.axes)[:3]
    for name, steps in (("ends", 2), ("strip", 4)):
        ask(lab, name, axes=keys, **({"steps": steps} if name == "strip" else {}))
        assert lab.wait(LIMIT)
        moved = [
            lab.space.move(lab.latent, key, value)
            for key in keys
            for value in torch.linspace(*lab.space.ends(key), steps).tolist()
        ]
        assert torch.allclose(sheet(lab, name).latents, torch.stack(moved), atol=1e-5)


def test_a_frame_tells_the_open_image_and_the_encoders_coordinates(lab):
    lab.wait()
    heard = listen(lab)
    ask(lab, "pick", index=4)
    assert lab.wait(LIMIT)
    ask(lab, "edit", edits=[{"axis": "channel 0", "value": 1.0}])
    assert lab.wait(LIMIT)
    frames = [content for content, _ in heard if content["kind"] == "frame"]
    expected = lab.space.coordinates(lab.encode(IMAGES[4])).tolist()
    assert [frame["facts"]["row"] for frame in frames] == [4] * len(frames)
    assert all(frame["reference"] == pytest.approx(expected, abs=1e-4) for frame in frames)
    lab.latent = torch.zeros_like(lab.latent)
    last = [content for content, _ in heard if content["kind"] == "frame"][-1]
    assert "row" not in last["facts"]
    assert last["reference"] == []


def test_a_selection_is_set_read_and_observed(lab):
    seen = []
    lab.observe(lambda change: seen.append(change.new), "selection")
    lab.selection = {4, 1}
    assert (lab.selection, lab._selection, seen) == ((1, 4), [1, 4], [(1, 4)])
    heard = listen(lab)
    number = ask(lab, "select", rows=[0, 0, 2])
    assert kinds(heard, number) == ["reply"]
    assert (lab.selection, seen[-1]) == ((0, 2), (0, 2))
    for wrong in ([6], [-1], [1.5], [True], "12", 3, None):
        with pytest.raises(UserError):
            lab.selection = wrong
    ask(lab, "select", rows=[17])
    assert "images 0 to 5" in errors(heard)[0]
    assert lab.selection == (0, 2)


def test_linked_labs_have_the_same_latent_until_they_are_unlinked(lab, other):
    other.latent = torch.ones_like(other.latent)
    link = lab.link(other)
    assert torch.equal(other.latent, lab.latent)
    ask(lab, "edit", edits=[{"axis": "channel 1", "value": 0.7}])
    assert torch.equal(other.latent, lab.latent)
    other.latent = torch.full_like(other.latent, 0.25)
    assert torch.equal(lab.latent, other.latent)
    assert lab.wait(LIMIT)
    assert other.wait(LIMIT)
    link.unlink()
    other.latent = torch.zeros_like(other.latent)
    assert lab.latent.unique().tolist() == [0.25]


def test_linked_by_the_image_each_model_encodes_it_itself(lab):
    with open_lab(tiny("mlp"), None) as third:
        with pytest.raises(UserError, match='what="image"'):
            lab.link(third)
        lab.link(third, what="image")
        ask(lab, "pick", index=2)
        assert lab.wait(LIMIT)
        assert third.wait(LIMIT)
        assert torch.equal(third.latent, third.encode(third.load(IMAGES[2])))
        third.image = third.images[1]
        assert lab.wait(LIMIT)
        assert torch.equal(lab.latent, lab.encode(lab.load(third.images[1])))
        before = third.latent
        ask(lab, "edit", edits=[{"axis": "channel 0", "value": 2.0}])  # of the latent alone
        assert lab.wait(LIMIT)
        assert torch.equal(third.latent, before)


def test_what_cannot_be_linked_is_refused(lab):
    for other, what in ((lab, "latent"), (3, "latent"), (lab, "both")):
        with pytest.raises(UserError):
            lab.link(other, what)
