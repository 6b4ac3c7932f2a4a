"""Pull requests: one for a push, whatever becomes of the requests and their answers."""

import json

import pytest

from support.pushed import REPO
from vae_plugin import hub as published
from vae_plugin.errors import PushError, UserError
from vae_plugin.hub import client

PATH = [  # of a push with --create_pr, every request
    "whoami", "GET /api/models/user/vae", "GET .*/tree/", "README.md", "GET .*/discussions", "validate-yaml",
    "/preupload/", "objects/batch", "PUT /storage", "objects/verify", "/commit/",
]  # fmt: skip


@pytest.fixture
def theirs(connected):
    """A repository with a card, to which a pull request is opened."""
    connected.commit(REPO, {"README.md": b"Theirs."}, "Theirs")
    return connected.repositories[REPO]


def is_whole(repository, folder):
    """Whether there is one pull request, with all files of the folder, and the main branch is untouched."""
    [request] = repository.pull_requests
    files = repository.resolve(request.branch).files
    names = ("diffusion_pytorch_model.safetensors", "config.json", "metrics.json", "run.json", "samples/prior.png")
    proposed = [commit.title for commit in repository.history(request.branch)]
    return (
        repository.resolve().title == "Theirs"
        and all(name in files for name in names)
        and all(files[name].content == (folder / name).read_bytes() for name in names if name != "config.json")
        and b"Theirs." in files["README.md"].content
        and proposed == ["Upload AutoencoderVAE", "Theirs", "initial commit"]
    )


def test_a_pull_request_to_a_repository_of_others(connected, folder):
    connected.commit("other/vae", {"README.md": b"Theirs."}, "Theirs")
    with pytest.raises(UserError, match="no write access to other/vae"):
        published.push(folder, "other/vae")
    info = published.push(folder, "other/vae", create_pr=True)
    repository = connected.repositories["other/vae"]
    assert info.pr_url.endswith("/other/vae/discussions/1")
    assert repository.resolve("refs/pr/1").oid == info.oid
    assert repository.resolve().title == "Theirs"
    proposed = repository.resolve("refs/pr/1").files["README.md"].content.decode()
    assert proposed.index("Theirs.") < proposed.index("<!-- generated:begin")


def test_what_is_proposed_already_is_not_proposed_again_and_a_change_is(theirs, connected, folder):
    connected.page_size = 1
    first = published.push(folder, REPO, create_pr=True)
    theirs.open_pull_request(title="Something else")
    theirs.open_pull_request(title="By somebody else", author="other")
    again = published.push(folder, REPO, create_pr=True)
    assert (again.pr_url, again.oid) == (first.pr_url, first.oid)
    assert len(theirs.pull_requests) == 3
    (folder / "metrics.json").write_text("{}")
    assert published.push(folder, REPO, create_pr=True).pr_url.endswith("/discussions/4")


def test_the_same_proposed_by_somebody_else_is_not_ours(theirs, connected, folder):
    connected.tokens["hf_other"] = ("other", "write")
    published.push(folder, REPO, create_pr=True, token="hf_other")
    published.push(folder, REPO, create_pr=True)
    assert [request.author for request in theirs.pull_requests] == ["other", "user"]


@pytest.mark.parametrize("request_line", PATH)
def test_one_pull_request_whichever_request_fails(theirs, connected, folder, request_line):
    connected.faults.lose_reply(request_line)
    connected.faults.fail(request_line, 504, after=True)
    connected.faults.cut(request_line)
    info = published.push(folder, REPO, create_pr=True)
    assert len(connected.faults.to_come) < 3
    assert is_whole(theirs, folder)
    assert info.pr_url.endswith("/discussions/1")
    assert info.oid == theirs.resolve("refs/pr/1").oid


@pytest.mark.parametrize("seed", range(6))
def test_one_pull_request_where_half_of_all_requests_fail(theirs, connected, folder, seed):
    connected.faults.seed(seed)
    connected.faults.storm(0.5)
    info = published.push(folder, REPO, create_pr=True)
    connected.faults.heal()
    assert is_whole(theirs, folder)
    assert info.oid == theirs.resolve("refs/pr/1").oid


def test_a_pull_request_that_was_opened_before_the_hub_went_down_is_found(theirs, connected, folder):
    """All answers to the commit are lost until the deadline: what was opened is looked for before giving up."""
    connected.faults.lose_reply("/commit/", times=10**6)
    assert published.push(folder, REPO, create_pr=True).pr_url.endswith("/discussions/1")
    assert is_whole(theirs, folder)


def test_a_hub_that_goes_down_is_told_with_what_is_not_known(theirs, connected, folder, monkeypatch):
    monkeypatch.setattr(client, "DEADLINE", 0.5)
    connected.faults.lose_reply("/commit/", times=10**6)
    connected.faults.fail("/discussions", 503, times=10**6)
    with pytest.raises(PushError, match="list the pull requests"):  # before one is opened
        published.push(folder, REPO, create_pr=True)
    assert not theirs.pull_requests


@pytest.mark.parametrize("seed", range(2))
def test_a_hub_without_discussions_is_asked_for_branches(theirs, connected, folder, seed):
    connected.faults.seed(seed)
    connected.faults.fail("/discussions", 404, times=10**6)
    connected.faults.storm(0.5, "POST")
    published.push(folder, REPO, create_pr=True)
    assert is_whole(theirs, folder)


def test_a_refusal_opens_none_and_a_later_push_opens_one(theirs, connected, folder):
    connected.faults.fail("/commit/", 400, reason="not today")
    with pytest.raises(PushError, match="not today"):
        published.push(folder, REPO, create_pr=True)
    assert not theirs.pull_requests
    published.push(folder, REPO, create_pr=True)
    assert is_whole(theirs, folder)


@pytest.mark.parametrize("more", [{"revision": "dev"}, {"tag": "v1"}])
def test_a_pull_request_has_neither_a_branch_nor_a_tag(theirs, connected, folder, more):
    with pytest.raises(UserError, match=next(iter(more))):
        published.push(folder, REPO, create_pr=True, **more)
    assert not connected.requests


def test_what_main_holds_already_is_not_proposed(connected, folder):
    published.push(folder, REPO)
    assert published.push(folder, REPO, create_pr=True).pr_url is None
    assert json.loads((folder / "metrics.json").read_text())["psnr"] == 21.5
    assert not connected.repositories[REPO].pull_requests
