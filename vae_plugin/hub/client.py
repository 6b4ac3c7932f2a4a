"""How we talk to the Hub: with a deadline, again where that helps, and without ever showing a token."""

from __future__ import annotations

import importlib
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import huggingface_hub
from huggingface_hub import HfApi, ModelCard, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, validate_repo_id, yaml_dump

from ..errors import PushError, UserError
from ..version import __version__

T = TypeVar("T")

DEADLINE = 120.0  # seconds that one request may be tried again for
FIRST_DEADLINE = 30.0  # of the first request of all: whoever cannot be reached now is likely to stay so
FIRST_WAIT, LONGEST_WAIT = 0.5, 5.0  # seconds between tries, where the Hub names none
REQUEST_TIMEOUT = 60.0  # seconds without a byte
PASSING = {408, 409, 425, 429, 500, 502, 503, 504}
TOKEN = re.compile(r"hf_[A-Za-z0-9_]{4,}|(?<=Bearer )\S+")


def hub_api(token: str | None = None) -> HfApi:
    """A client that names itself in its requests.

    Raises:
        UserError: if there is no token, or the Hub is switched off.
    """
    if constants.is_offline_mode() if hasattr(constants, "is_offline_mode") else constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set: unset it to push, or push later with `vae-plugin push`.")
    if (token or get_token()) is None:
        raise UserError("there is no token for the Hub: set HF_TOKEN or run `hf auth login`, with one that may write.")
    return HfApi(token=token, library_name="vae-plugin", library_version=__version__)


def bound_waiting() -> None:
    """Let no request of this process wait for ever on a server that does not answer, as the client would.

    Of the whole process, hence for commands and not for a library call. Clients before 1.0 have no such setting.
    """
    if not hasattr(huggingface_hub, "set_client_factory"):
        return
    make = importlib.import_module("huggingface_hub.utils._http").default_client_factory

    def factory() -> Any:
        client = make()
        client.timeout = REQUEST_TIMEOUT
        return client

    huggingface_hub.set_client_factory(factory)


def check_repo_id(repo_id: str) -> str:
    """The id itself.

    Raises:
        UserError: if there can be no such repository.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"{repo_id!r} cannot be a repository on the Hub: give user/name. ({error})") from error
    return repo_id


def prepare_repository(
    api: HfApi,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    license: str | None = None,
) -> str:
    """Make sure, before anything long begins, that the repository is there and can be written to.

    Args:
        api: of `hub_api`.
        repo_id: user/name, or a name of the token's user.
        private: of a repository that is made now; one that there is stays as it is.
        revision: branch that is made where it is not there.
        create_pr: what is pushed becomes a pull request, for which another's repository will do.
        license: that the card will name.

    Returns:
        The full id.

    Raises:
        UserError: if the token is not accepted or may not write there, or the Hub does not know the licence.
        PushError: if the Hub cannot be reached.
    """
    check_repo_id(repo_id)
    user = _whoami(api)
    role = ((user.get("auth") or {}).get("accessToken") or {}).get("role")
    if role == "read":
        raise UserError("the token can only read: make one that may write, and set HF_TOKEN or run `hf auth login`.")
    if license is not None:
        _check_license(license)
    if "/" not in repo_id and user.get("name"):
        repo_id = f"{user['name']}/{repo_id}"
    try:
        if create_pr:
            retried(lambda: api.model_info(repo_id), f"look for {repo_id}")
            return repo_id
        made = retried(lambda: api.create_repo(repo_id, private=private or None, exist_ok=True), f"make {repo_id}")
        repo_id = getattr(made, "repo_id", None) or repo_id
        if revision is not None and not revision.startswith("refs/"):
            retried(lambda: api.create_branch(repo_id, branch=revision, exist_ok=True), f"make the branch {revision}")
        retried(lambda: _ask_to_write(api, repo_id, revision or "main"), f"ask to write to {repo_id}")
    except PushError as error:
        status = status_of(error.__cause__)
        if status in (401, 403):
            raise UserError(
                f"the token may not write to {repo_id}: use one that may, or another repository. ({error})"
            ) from error
        if status == 404:
            raise UserError(f"{repo_id} is not on the Hub, or the token may not see it. ({error})") from error
        raise
    return repo_id


def retried(work: Callable[[], T], what: str, deadline: float | None = None, repeatable: bool = True) -> T:
    """Do `work`, again and again while what goes wrong is likely to pass.

    Args:
        work: asks the Hub for something.
        what: it does, for messages: "make user/name".
        deadline: seconds after which no new try begins; default: `DEADLINE`.
        repeatable: whether it may be done again when nobody knows if it was done: when the answer was lost.

    Raises:
        PushError: when it fails for good; its cause is the last error.
    """
    started, wait = time.monotonic(), FIRST_WAIT
    deadline = DEADLINE if deadline is None else deadline
    while True:
        try:
            return work()
        except OfflineModeIsEnabled:
            raise
        except _errors() as error:
            if _store_is_missing(error):
                constants.HF_HUB_DISABLE_XET = True  # a Hub without the new store takes large files the old way
                continue
            pause = retry_after(error)
            pause = wait * random.uniform(0.5, 1.0) if pause is None else pause
            lost = not repeatable and status_of(error) is None
            if lost or not will_pass(error) or time.monotonic() - started + pause > deadline:
                raise PushError(f"could not {what}: {describe(error)}") from error
            print(f"The Hub did not {what} ({describe(error)}); trying again in {pause:.1f} s.", file=sys.stderr)
            time.sleep(pause)
            wait = min(2 * wait, LONGEST_WAIT)


def describe(error: BaseException) -> str:
    """The first line of an error and of what it came from, in which no token stands."""
    lines = []
    for cause in _causes(error):
        first = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        if first not in " ".join(lines):
            lines.append(first)
    return without_tokens("; ".join(lines))


def without_tokens(text: str) -> str:
    """The text with everything that is or looks like a token blotted out."""
    token = get_token()
    if token:
        text = text.replace(token, "hf_***")
    return TOKEN.sub("hf_***", text)


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status behind an error, if there is one."""
    for cause in _causes(error):
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status is not None:
            return status
    return None


def will_pass(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    status = status_of(error)
    if status is not None:
        # The address that a large file is sent to is signed for a while only; a new try gets a new one.
        return status in PASSING or (status == 403 and isinstance(error, RuntimeError) and "uploading" in str(error))
    return not isinstance(error, ValueError) or type(error).__name__ == "JSONDecodeError"


def retry_after(error: BaseException) -> float | None:
    """Seconds that the Hub asks to wait, at most a minute."""
    for cause in _causes(error):
        value = (getattr(getattr(cause, "response", None), "headers", None) or {}).get("Retry-After")
        if value is not None and re.fullmatch(r"\d+(\.\d+)?", value):
            return min(float(value), 60.0)
    return None


def _whoami(api: HfApi) -> dict:
    try:
        return retried(api.whoami, "say whose token this is", min(DEADLINE, FIRST_DEADLINE))
    except PushError as error:
        if status_of(error.__cause__) in (401, 403):
            raise UserError(
                f"the Hub does not accept the token: make a new one, and set HF_TOKEN or run `hf auth login`. ({error})"
            ) from error
        if status_of(error.__cause__) == 404:  # a mirror without accounts
            return {}
        raise


def _check_license(license: str) -> None:
    card = ModelCard(f"---\n{yaml_dump({'license': license})}---\n")
    try:
        retried(card.validate, "check the licence")
    except PushError as error:
        if isinstance(error.__cause__, ValueError):
            raise UserError(
                f"the Hub does not take the licence {license!r}: give the id that it has there, such as mit or "
                f"apache-2.0, or other. ({error})"
            ) from error
        raise


def _ask_to_write(api: HfApi, repo_id: str, revision: str) -> None:
    """The first request of an upload, which only those may make who can write; it changes nothing."""
    response = get_session().post(
        f"{api.endpoint}/api/models/{repo_id}/preupload/{revision.replace('/', '%2F')}",
        headers=build_hf_headers(token=api.token, library_name=api.library_name, library_version=api.library_version),
        json={"files": [{"path": "README.md", "sample": "", "size": 0}]},
    )
    hf_raise_for_status(response)


def _errors() -> tuple[type[Exception], ...]:
    """What the client raises; a lost connection has the type of the HTTP library that it is built on."""
    found: list[type[Exception]] = [HfHubHTTPError, OSError, RuntimeError, ValueError]
    for name in ("httpx2", "httpx"):
        if name in sys.modules:
            found.append(sys.modules[name].HTTPError)
    return tuple(found)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _store_is_missing(error: BaseException) -> bool:
    return not constants.HF_HUB_DISABLE_XET and any("xet-write-token" in str(cause) for cause in _causes(error))
