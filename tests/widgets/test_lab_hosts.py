"""Labs with models as people have them in memory: compiled, moved part by part, beside another default type, closed."""

import logging

import pytest
import torch
from accelerate import cpu_offload

from support.tiny_lab import LIMIT, MODELS, ask, errors, listen, open_lab, tiny
from vae_plugin.widgets import LatentLab, state
from vae_plugin.widgets.recipe import Recipe
from vae_plugin.widgets.state import HISTORY, History, State, given_state


def use(lab):
    """A request of each kind that reaches the model; the lab's latents and picture."""
    heard = listen(lab)
    ask(lab, "pick", index=1)
    assert lab.wait(LIMIT)
    ask(lab, "edit", edits=[{"axis": "direction 1", "value": 0.5}])
    ask(lab, "prior", n=2, seed=3)
    lab.keep("a")
    assert lab.wait(LIMIT)
    assert errors(heard) == []
    return lab.latent, lab.space.means


@pytest.mark.parametrize("name", ["conv", "AutoencoderKL", "rvq"])
@pytest.mark.parametrize("host", ["compiled", "offloaded", "float64"])
def test_the_lab_is_the_same(name, host):
    model = tiny(name)
    with open_lab(tiny(name), max_images=4) as lab:
        wanted = use(lab)
    if host == "compiled":
        model = torch.compile(model)
    elif host == "offloaded":
        cpu_offload(model, torch.device("cpu"))
    else:
        torch.set_default_dtype(torch.float64)
    try:
        with open_lab(model, max_images=4) as lab:
            for found, value in zip(use(lab), wanted, strict=True):
                torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-4)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_closed_lab_says_so_when_it_is_displayed(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, **options: shown.append(bundle))
    with open_lab("mlp", max_images=3) as lab:
        lab.close()
        lab._ipython_display_()
        assert shown == [{"text/plain": "This LatentLab was closed: make a new one."}]


@pytest.mark.parametrize("name", list(MODELS))
def test_the_panel_offers_samples_of_the_posterior_where_there_are_any(name):
    with open_lab(name, max_images=2) as lab:
        heard = listen(lab)
        ask(lab, "posterior", seed=3)
        assert lab.wait(LIMIT)
        assert lab.get_state()["_info"]["samples"] == (errors(heard) == [])


def test_an_error_that_nobody_waits_for_is_kept_until_it_was_seen(caplog):
    caplog.set_level(logging.ERROR)
    with open_lab("mlp", max_images=3) as lab:
        ask(lab, "edit", edits=[{"axis": "dim 0", "value": 0.5}])  # no view listens

        def observer(_):
            raise ZeroDivisionError("of the user")

        lab.observe(observer, "image")
        for value in (1, 2, 3):
            ask(lab, "edit", edits=[{"axis": "dim 0", "value": value}])
        assert lab.wait(LIMIT)
        lab.unobserve(observer, "image")
        [problem] = lab.get_state()["_problems"]  # what a view finds that opens now
        assert problem["text"] == "ZeroDivisionError: of the user"
        assert "of the user" in caplog.text
        ask(lab, "edit", edits=[{"axis": "dim 0", "value": 4}])
        assert lab.wait(LIMIT)
        assert lab.get_state()["_problems"] == [problem]
        ask(lab, "seen", number=problem["number"])
        assert lab.get_state()["_problems"] == []


def test_what_can_be_undone_is_bounded_by_memory(monkeypatch):
    monkeypatch.setattr(state, "HISTORY_BYTES", 10 * 4000)
    history = History(State(torch.zeros(1000), name="0"))
    for i in range(1, HISTORY + 5):
        after = given_state(torch.full((1000,), float(i)), str(i), Recipe())
        history.change(lambda _, after=after: after)
    undone = 0
    while history._past:
        history.undo()
        undone += 1
    assert undone == 10
    large = History(State(torch.zeros(20_000), name="large"))  # the last change can be undone in any case
    large.change(lambda before: State(before.latent + 1, name="changed"))
    large.undo()
    assert large.state.name == "large"


def test_a_decoder_that_gives_nan_is_said():
    model = tiny("conv")
    with open_lab(model, max_images=3) as lab:
        heard, image = listen(lab), lab.image
        with torch.no_grad():
            next(model.decoder.parameters()).fill_(float("nan"))
        ask(lab, "edit", edits=[{"axis": "channel 0", "value": 0.5}])
        assert lab.wait(LIMIT)
        assert any("NaN" in text for text in errors(heard))
        assert lab.image is image
        with pytest.raises(Exception, match="NaN"):
            LatentLab(model, resolution=16, max_images=3)
