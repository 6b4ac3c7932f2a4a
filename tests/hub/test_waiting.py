"""How long a push waits: as the Hub asks, within bounds, and never for ever."""

import time
from email.utils import formatdate
from types import SimpleNamespace

import pytest

from support.pushed import REPO, commits, new_model
from vae_plugin import hub as published
from vae_plugin.errors import PushError
from vae_plugin.hub import client, waiting


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"retry-after": " 300 "}, 300),
        ({"Retry-After": "Fri, 01 Jan 2027 00:01:00 GMT", "Date": "Fri, 01 Jan 2027 00:00:00 GMT"}, 60),
        ({"Retry-After": "Fri, 01 Jan 1999 00:00:00 GMT"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"RateLimit": '"api";r=0;t=55'}, 56),  # rounded, hence a second more
        ({"ratelimit": '"api"; r=0; t=55', "ratelimit-policy": '"fixed window";"api";q=500;w=300'}, 56),
        ({"RateLimit": '"api";r=12;t=55'}, None),  # that limit is not why
        ({"RateLimit": '"api";r=12;t=55, "resolvers-2";t=90;r=0'}, 91),
        ({"RateLimit": "nonsense"}, None),
        ({"RateLimit": '"api";r=0;t=55', "Retry-After": "120"}, 120),
        ({"RateLimit": '"api";r=0;t=200', "Retry-After": "120"}, 201),
    ],
)
def test_the_hub_says_how_long_to_wait(headers, seconds):
    assert waiting.asked_wait(headers) == seconds


def test_a_date_counts_from_now_where_the_answer_has_none():
    wait = waiting.asked_wait({"Retry-After": formatdate(time.time() + 100, usegmt=True)})
    assert 0 < wait <= 100


@pytest.fixture
def slept(monkeypatch):
    """The waits, which pass at once."""
    seconds = []
    clock = SimpleNamespace(now=0.0)

    def sleep(wait):
        seconds.append(wait)
        clock.now += wait

    monkeypatch.setattr(client, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: clock.now))
    return seconds


@pytest.mark.parametrize("request_line", ["whoami", "/preupload/", "objects/batch", "/commit/"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_that_the_hub_asks_for_is_kept_and_said(connected, folder, slept, capsys, request_line, status):
    connected.commit(REPO, {"README.md": b"Mine."})
    connected.faults.fail(request_line, status, headers={"Retry-After": "300"})
    published.push(folder, REPO)
    assert [wait for wait in slept if wait >= 1] == [300]
    assert "trying again in 300" in capsys.readouterr().err
    assert commits(connected)[0].title == "Upload AutoencoderVAE"


def test_the_rate_limit_of_the_hub_is_kept(connected, folder, slept):
    connected.faults.fail("/preupload/", 429, times=2, headers={"RateLimit": '"api";r=0;t=55'})
    published.push(folder, REPO)
    assert [wait for wait in slept if wait >= 1] == [56, 56]


@pytest.mark.parametrize("request_line", ["/preupload/", "/commit/"])
def test_a_wait_that_is_too_long_is_refused(connected, folder, slept, request_line):
    connected.commit(REPO, {})
    connected.faults.fail(request_line, 429, times=10**6, headers={"Retry-After": "86400"})
    with pytest.raises(PushError, match=r"the Hub asks to wait 86,400 s"):
        published.push(folder, REPO)
    assert not [wait for wait in slept if wait >= 1]


def test_the_hub_cannot_make_a_push_wait_for_ever(connected, folder, slept):
    connected.commit(REPO, {})
    connected.faults.fail("/commit/", 429, times=10**6, headers={"Retry-After": "300"})
    with pytest.raises(PushError, match="429"):
        published.push(folder, REPO)
    assert sum(slept) == 900


@pytest.mark.parametrize(  # downloads have a timeout of their own, of ten seconds
    "request_line",
    ["whoami", "GET /api/models/user/vae", "GET .*/tree/", "validate-yaml", "/preupload/", "objects/batch",
     "PUT /storage", "objects/verify", "/commit/", "POST .*/tag/"],
)  # fmt: skip
def test_a_silent_server_is_not_waited_for_by_any_request(connected, monkeypatch, request_line):
    """By the method of the model: nothing was set up for the process, and nothing stays set."""
    monkeypatch.setattr(waiting, "REQUEST_TIMEOUT", 0.3)
    connected.commit(REPO, {"README.md": b"Mine."})
    connected.faults.hang(request_line, seconds=3600)
    if "tag" in request_line:
        published.push(new_model(), REPO, tag="v1")
    else:
        new_model().push_to_hub(REPO)
    assert len(commits(connected)) == 2


def test_other_requests_keep_their_time(connected, monkeypatch, folder):
    published.push(folder, REPO)
    monkeypatch.setattr(waiting, "REQUEST_TIMEOUT", 0.1)
    connected.faults.hang("whoami", seconds=0.5)
    assert client.hub_api().whoami()["name"] == "user"


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize("request_line", ["/preupload/", "/commit/", "objects/batch", "repos/create", "validate-yaml"])
def test_the_reason_of_the_hub_is_shown_and_no_empty_repository_is_left(connected, folder, status, request_line):
    reason = "Your storage of 300 GB is full. See https://hf.co/pricing"
    connected.faults.fail(request_line, status, reason=reason, times=10**6)
    with pytest.raises((PushError, ValueError)) as refused:
        published.push(folder, REPO)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert REPO not in connected.repositories


def test_a_repository_that_is_there_or_has_got_a_commit_stays(connected, folder):
    connected.commit(REPO, {})
    connected.faults.fail("/commit/", 400)
    with pytest.raises(PushError):
        published.push(folder, REPO)
    assert REPO in connected.repositories
    del connected.repositories[REPO]
    connected.faults.lose_reply("/commit/")
    connected.faults.fail("/commit/", 400, times=10**6)
    with pytest.raises(PushError):
        published.push(folder, REPO)
    assert commits(connected)
