"""Tags: set on what was pushed, moved where that is asked for, otherwise refused before anything is sent."""

import pytest

from support.pushed import REPO, commits
from vae_plugin import hub as published
from vae_plugin.errors import PushError, UserError
from vae_plugin.hub.destination import check_ref


@pytest.fixture
def tagged(connected, folder):
    """The commit of the folder, tagged v1; the folder has changed since."""
    info = published.push(folder, REPO, tag="v1")
    (folder / "metrics.json").write_text("{}")
    return info.oid


def tags(hub):
    return hub.repositories[REPO].tags


def writes(hub):
    reads = ("/api/validate-yaml",)
    return [line for line in hub.requests if line[0] not in ("GET", "HEAD") and line[1] not in reads]


@pytest.mark.parametrize("where", [{}, {"revision": "another-branch"}])
def test_a_tag_on_another_commit_is_refused_before_anything_is_sent(connected, folder, tagged, where):
    connected.requests.clear()
    with pytest.raises(UserError, match=rf"tag v1 already, on commit {tagged[:8]}.*--move_tag.*another --tag"):
        published.push(folder, REPO, tag="v1", **where)
    assert not writes(connected)
    assert tags(connected) == {"v1": tagged}
    assert len(commits(connected)) == 1


def test_a_tag_is_moved_where_that_is_asked_for(connected, folder, tagged):
    info = published.push(folder, REPO, tag="v1", move_tag=True)
    assert info.oid != tagged
    assert tags(connected) == {"v1": info.oid}


def test_a_push_that_is_repeated_finds_its_tag_in_place_or_sets_it(connected, folder, tagged):
    info = published.push(folder, REPO)
    assert published.push(folder, REPO, tag="v2").oid == info.oid
    assert published.push(folder, REPO, tag="v2").oid == info.oid
    assert tags(connected) == {"v1": tagged, "v2": info.oid}
    with pytest.raises(UserError, match="tag v1 already"):  # nothing to commit, but the tag is elsewhere
        published.push(folder, REPO, tag="v1")
    assert published.push(folder, REPO, tag="v1", move_tag=True).oid == info.oid
    assert tags(connected) == {"v1": info.oid, "v2": info.oid}


@pytest.mark.parametrize("pattern", ["DELETE .*/tag/", "POST .*/tag/", "GET .*/refs"])
def test_a_tag_is_moved_whichever_request_fails(connected, folder, tagged, pattern):
    connected.faults.lose_reply(pattern)
    connected.faults.fail(pattern, 502, after=True)
    connected.faults.cut(pattern)
    info = published.push(folder, REPO, tag="v1", move_tag=True)
    assert tags(connected) == {"v1": info.oid}


def test_a_tag_that_somebody_sets_meanwhile_is_not_moved(connected, folder, monkeypatch):
    connected.commit(REPO, {})
    send = published.push.__globals__["_commit"]

    def meanwhile(*arguments):
        info = send(*arguments)
        tags(connected)["v1"] = connected.repositories[REPO].resolve(info.oid).parent
        return info

    monkeypatch.setitem(published.push.__globals__, "_commit", meanwhile)
    with pytest.raises(PushError, match="tag v1 from somebody else"):
        published.push(folder, REPO, tag="v1")
    assert tags(connected)["v1"] == commits(connected)[0].parent


NO_NAMES = [
    "a b",
    "",
    "-v",
    "a..b",
    "v1.",
    "/v",
    "v//1",
    "v~1",
    "v^",
    "v:1",
    "a?",
    "a*",
    "[",
    "@",
    "@{1}",
    "x.lock",
    "\n",
    "ü\0",
]


def test_a_name_that_git_cannot_have_is_refused_before_anything_is_sent(connected, folder):
    for name in NO_NAMES:
        for where in ({"tag": name}, {"revision": name}):
            with pytest.raises(UserError, match="cannot be the name of a branch or tag"):
                published.push(folder, REPO, **where)
    assert not connected.requests


@pytest.mark.parametrize("name", ["v1.0", "a/b", "Zürich", "step-000001", "x_y@2"])
def test_a_name_that_git_can_have_is_taken(name):
    assert check_ref(name, "--tag") == name
