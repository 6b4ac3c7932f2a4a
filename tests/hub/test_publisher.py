"""What a run asks of the Hub before its first step, and says when its result cannot be sent."""

import io
import os
import shlex
import sys

import pytest

from support.pushed import REPO, new_model
from vae_plugin import hub as published
from vae_plugin.autoencoders import adapt
from vae_plugin.commands.push import PushOptions
from vae_plugin.errors import TrainingStopped, UserError
from vae_plugin.options import parse
from vae_plugin.training.hooks.publish import Publisher
from vae_plugin.training.settings import HubSettings

STEPS = range(5, 20, 5)


@pytest.fixture
def publisher(connected, tmp_path):
    def make(out=tmp_path / "out", **settings):
        return Publisher(HubSettings(push_to_hub=True, hub_model_id=REPO, **settings), out)

    return make


def opened(publisher, **facts):
    publisher.open(adapt(new_model()), published.RunRecord(**facts), STEPS)
    return publisher


def test_looking_changes_nothing_and_opening_creates(publisher, connected):
    first = publisher(hub_private_repo=True, license="mit")
    assert not connected.repositories  # whatever else is wrong with the run leaves no empty repository
    opened(first)
    assert connected.repositories[REPO].private


@pytest.mark.parametrize("strategy", ["checkpoint", "end"])
def test_a_tag_of_an_earlier_run_is_found_before_training(publisher, connected, strategy):
    connected.commit(REPO, {})
    connected.repositories[REPO].tags |= {"step-000010": connected.repositories[REPO].branches["main"]}
    second = publisher(hub_strategy=strategy)
    if strategy == "end":
        opened(second)
        return
    with pytest.raises(
        UserError, match=r"tag step-000010 already.*--hub_move_tags.*--hub_model_id.*--hub_strategy end"
    ):
        opened(second)
    opened(publisher(hub_move_tags=True))


def test_tags_of_other_steps_are_not_in_the_way(publisher, connected):
    """Such as those before the checkpoint that a run goes on from."""
    connected.commit(REPO, {})
    tags = connected.repositories[REPO].tags
    tags |= dict.fromkeys(["step-000004", "step-000020", "v1"], connected.repositories[REPO].branches["main"])
    opened(publisher())


def pushed_step(publisher, step, seed):
    publisher.checkpoint(adapt(new_model(seed)), step, published.RunRecord())
    assert publisher.background.finish(60)


def test_the_checkpoints_of_a_second_run_take_the_tags_where_that_is_asked_for(publisher, connected):
    repository = connected.repositories
    pushed_step(opened(publisher()), 5, seed=0)
    first = repository[REPO].tags["step-000005"]
    second = opened(publisher(hub_move_tags=True))
    pushed_step(second, 5, seed=1)
    assert repository[REPO].tags["step-000005"] == repository[REPO].branches["main"] != first


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (b"---\nlicense: [\n---\nMine.\n", "is broken"),
        (b"---\nlicense: mit\nlicense: other\n---\nMine.\n", "is broken"),
        ("Ma carte : été".encode("cp1252"), "not text in UTF-8"),
    ],
)
def test_a_broken_card_on_the_hub_is_found_before_anything_is_loaded(publisher, connected, card, words):
    connected.commit(REPO, {"README.md": card})
    with pytest.raises(UserError, match=words):
        publisher()


@pytest.mark.parametrize(
    ("card", "facts"),
    [
        (b"---\nlicense: no-such-licence\n---\nMine.\n", {}),
        (b"", {"license": "no-such-licence"}),  # that of the base model
    ],
)
def test_metadata_that_the_hub_will_refuse_are_found_before_training(publisher, connected, card, facts):
    if card:
        connected.commit(REPO, {"README.md": card})
    with pytest.raises(TrainingStopped, match=r"must be one of"):
        opened(publisher(), **facts)
    assert bool(card) == (REPO in connected.repositories)


@pytest.mark.parametrize("fault", [{"status": 400, "reason": "not today"}, {"status": 403, "reason": "not today"}])
def test_the_advice_after_a_failed_last_push_repeats_it_word_for_word(publisher, connected, folder, tmp_path, fault):
    out = tmp_path / "the run's $HOME (1)"
    folder.rename(out)
    settings = {"hub_private_repo": True, "hub_revision": "a-branch", "license": "mit", "hub_strategy": "end"}
    last = opened(publisher(out, **settings))
    connected.faults.fail("/commit/", times=10**6, **fault)
    with pytest.raises(TrainingStopped, match=r"is complete, but.*not today") as stopped:
        last.result(1200)
    words = shlex.split(str(stopped.value).split("Send it with: ")[1])
    assert words[:2] == ["vae-plugin", "push"]
    options = parse(PushOptions, words[2:], prog="push", description="")
    assert options == PushOptions(
        folder=str(out),
        repo_id=REPO,
        private=True,
        revision="a-branch",
        license="mit",
        commit_message="The result, after 1,200 steps",
    )


def test_a_token_that_is_withdrawn_during_training_does_not_hide_the_advice(publisher, connected, folder):
    last = opened(publisher(folder, hub_strategy="end"))
    connected.tokens.clear()
    with pytest.raises(TrainingStopped, match=r"does not accept the token.*Send it with: vae-plugin push"):
        last.result(12)


def test_names_that_the_terminal_cannot_show_stop_no_push(publisher, connected, folder, tmp_path, monkeypatch):
    out = tmp_path / "Zürich 東京"
    folder.rename(out)
    (out / "samples" / "Prüfung.png").write_bytes(b"png")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    last = opened(publisher(out))
    connected.faults.fail("/commit/", 400, reason="nicht für dich")
    last.checkpoint(adapt(new_model()), 5, published.RunRecord())  # refused, which is told in the background
    assert last.background.finish(60)
    last.result(12)
    assert connected.repositories[REPO].resolve().title == "The result, after 12 steps"
    assert "samples/Prüfung.png" in connected.repositories[REPO].resolve().files
    sys.stdout.flush()
    assert "nicht f\\xfcr dich" in sys.stdout.buffer.getvalue().decode("ascii")


def test_a_file_whose_name_the_hub_cannot_have_is_one_sentence(publisher, folder):
    (folder / "samples" / os.fsdecode(b"\xff.png")).write_bytes(b"png")
    with pytest.raises(TrainingStopped, match="name that is not UTF-8"):
        opened(publisher(folder)).result(12)
