"""The parts of a lab by themselves: history, the owner of the shelf, published traits, messages to the front end."""

import re
import threading

import pytest
import torch
import traitlets

from support.tiny_lab import one_sentence, open_lab
from vae_plugin.errors import UserError
from vae_plugin.widgets import frontend
from vae_plugin.widgets.live import Live
from vae_plugin.widgets.outlet import Outlet, sentence
from vae_plugin.widgets.recipe import Line, Recipe
from vae_plugin.widgets.shelf import Saved, ShelfKeeper
from vae_plugin.widgets.state import HISTORY, History, State, given_state


def latent(value):
    return torch.full((2, 1, 1), float(value))


def to(value):
    return lambda state: given_state(latent(value), str(value), Recipe((Line(f"z = {value}"),)))


# --- history ---


@pytest.fixture
def history():
    return History(State(latent(0), name="0"))


def test_changes_of_one_gesture_are_one_change(history):
    for value in (1, 2, 3):
        history.change(to(value), gesture="a")
    history.change(to(4), gesture="b")
    history.undo()
    assert history.state.name == "3"
    history.undo()
    assert history.state.name == "0"
    with pytest.raises(UserError) as raised:
        history.undo()
    assert one_sentence(raised.value)


def test_a_gesture_knows_where_it_began(history):
    history.change(to(1))
    assert history.start_of("a").name == "1"
    for value in (2, 3):
        history.change(to(value), gesture="a")
        assert history.start_of("a").name == "1"
    assert history.start_of("b") is history.state
    assert history.start_of(None) is history.state
    history.undo()
    assert history.start_of("a") is history.state


def test_a_latent_that_is_not_finite_changes_nothing(history):
    state = history.state
    with pytest.raises(UserError):
        history.change(to(float("nan")))
    assert history.state is state
    with pytest.raises(UserError):
        history.undo()


def test_only_the_latest_changes_are_kept(history):
    for value in range(1, HISTORY + 11):
        history.change(to(value))
    for _ in range(HISTORY):
        history.undo()
    assert history.state.name == "10"
    with pytest.raises(UserError):
        history.undo()


# --- the shelf ---


def test_observers_hear_of_each_change_of_the_shelf():
    keeper, heard = ShelfKeeper(), []
    keeper.observe(lambda shelf: heard.append(shelf.names))
    [a, b] = keeper.add([Saved("a", latent(1)), Saved("a", latent(2))])
    keeper.rename(a.key, "c")
    keeper.remove(b.key)
    keeper.replace([])
    assert heard == [["a", "a (2)"], ["c", "a (2)"], ["c"], []]
    assert keeper.shelf == ()


def test_what_several_threads_put_on_the_shelf_is_all_there():
    keeper = ShelfKeeper()
    threads = [
        threading.Thread(target=lambda: [keeper.add([Saved("a", latent(i))]) for i in range(100)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(keeper.shelf.names)) == 400


def test_the_trait_and_the_panel_follow_the_shelf():
    with open_lab("mlp", max_images=2) as lab:
        seen = []
        lab.observe(lambda change: seen.append(change["new"].names), "shelf")
        lab._session.keeper.add([Saved("a", lab.latent)])
        assert lab.shelf is lab._session.keeper.shelf
        assert [entry["name"] for entry in lab.get_state()["_shelf"]] == ["a"]
        lab.shelf = {"b": lab.latent}
        assert lab.shelf is lab._session.keeper.shelf
        assert seen == [["a"], ["b"]]


# --- traits and messages ---


class Owner(traitlets.HasTraits):
    value = Live()

    @traitlets.validate("value")
    def _double(self, proposal):
        return 2 * proposal["value"]


def test_what_is_published_is_not_validated_and_heard_of_once():
    owner, heard = Owner(), []
    owner.observe(lambda change: heard.append(change["new"]), "value")
    assert owner.value is None
    owner.value = torch.ones(2)
    tensor = torch.ones(2)
    Owner.value.publish(owner, tensor)
    Owner.value.publish(owner, tensor)  # the same object
    assert owner.value is tensor
    assert [z.tolist() for z in heard] == [[2, 2], [1, 1]]


def test_the_outlet_is_silent_without_a_front_end():
    with open_lab("mlp", max_images=2) as lab:
        outlet, sent = Outlet(lab), []
        lab.send = lambda content, buffers: sent.append(content)
        outlet.drop(None)
        outlet.reply({"view": "v", "id": 1}, {"text": "x"})
        outlet.publish(progress=[1, 2])
        assert lab.get_state()["_progress"] == [1, 2]
        with pytest.raises(traitlets.TraitError):
            outlet.publish(nothing=1)
        lab.close()
        outlet.reply({"view": "v", "id": 2}, {})
    assert sent == [{"kind": "reply", "view": "v", "id": 1, "text": "x"}]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("give a number."), "give a number."),
        (KeyError("axis"), "KeyError: axis"),
        (RuntimeError("first line\nsecond"), "RuntimeError: first line"),
        (ValueError(), "ValueError: no reason was given"),
    ],
)
def test_an_error_is_one_sentence(error, words):
    assert sentence(error) == words


# --- the front end ---


@pytest.mark.parametrize("entry", [frontend.ENTRY, "local/start.js"])
def test_no_two_modules_of_a_joined_script_define_the_same_name(entry):
    """All share one scope, and a browser refuses the whole script."""
    names = re.findall(r"^(?:async )?(?:const|let|class|function) (\w+)", frontend.script(entry), re.M)
    assert len(names) > 50
    assert sorted(names) == sorted(set(names))
