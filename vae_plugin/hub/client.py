"""Requests to the Hub: with a deadline, retried where that helps, never showing a token."""

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

DEADLINE = 120.0  # seconds during which a request is retried
FIRST_DEADLINE = 30.0  # seconds for the first request: a Hub that is out of reach now is likely to stay so
FIRST_WAIT, LONGEST_WAIT = 0.5, 5.0  # seconds between attempts, unless the Hub names a time
REQUEST_TIMEOUT = 60.0  # seconds without receiving a byte
TRANSIENT = {408, 409, 425, 429, 500, 502, 503, 504}
TOKEN = re.compile(r"hf_[A-Za-z0-9_]{4,}|(?<=Bearer )\S+")


def hub_api(token: str | None = None) -> HfApi:
    """A Hub client that identifies this package in its requests.

    Raises:
        UserError: if there is no token, or in offline mode.
    """
    if constants.is_offline_mode() if hasattr(constants, "is_offline_mode") else constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set: unset it to push, or run `vae-plugin push` later.")
    if (token or get_token()) is None:
        raise UserError(
            "there is no token for the Hub: set HF_TOKEN or run `hf auth login`, with a token that has write access."
        )
    return HfApi(token=token, library_name="vae-plugin", library_version=__version__)


def bound_waiting() -> None:
    """Set a timeout for all Hub requests of this process, which would otherwise wait forever for a silent server.

    The setting is global, hence for commands and not for library calls. Clients before 1.0 do not have it.
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
    """Return the id, if a repository can have it.

    Raises:
        UserError: otherwise.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{repo_id!r} cannot be a repository on the Hub: give user/name. ({reason})") from error
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
    """Create the repository and check write access, before any long work begins.

    Args:
        api: client from `hub_api`.
        repo_id: user/name, or only the name for a repository of the token's user.
        private: make a new repository private; an existing one does not change.
        revision: branch, created if it does not exist.
        create_pr: whether a pull request will be opened, which needs no write access.
        license: licence for the card.

    Returns:
        The full id.

    Raises:
        UserError: if the token is not accepted or has no write access, or the Hub does not know the licence.
        PushError: if the Hub cannot be reached.
    """
    check_repo_id(repo_id)
    user = _whoami(api)
    role = ((user.get("auth") or {}).get("accessToken") or {}).get("role")
    if role == "read":
        raise UserError(
            "the token is read-only: create one with write access, and set HF_TOKEN or run `hf auth login`."
        )
    if license is not None:
        _check_license(license)
    if "/" not in repo_id and user.get("name"):
        repo_id = f"{user['name']}/{repo_id}"
    try:
        if create_pr:
            retried(lambda: api.model_info(repo_id), f"find {repo_id}")
            return repo_id
        made = retried(lambda: api.create_repo(repo_id, private=private or None, exist_ok=True), f"create {repo_id}")
        repo_id = getattr(made, "repo_id", None) or repo_id
        if revision is not None and not revision.startswith("refs/"):
            retried(lambda: api.create_branch(repo_id, branch=revision, exist_ok=True), f"create the branch {revision}")
        retried(lambda: _ask_to_write(api, repo_id, revision or "main"), f"check write access to {repo_id}")
    except PushError as error:
        status = status_of(error.__cause__)
        if status in (401, 403):
            raise UserError(
                f"the token has no write access to {repo_id}: use another token, or another repository. ({error})"
            ) from error
        if status == 404:
            raise UserError(
                f"{repo_id} does not exist on the Hub, or is hidden from the token: check both. ({error})"
            ) from error
        raise
    return repo_id


def retried(work: Callable[[], T], what: str, deadline: float | None = None, repeatable: bool = True) -> T:
    """Send a request. Transient errors are retried for two minutes, honouring Retry-After.

    Args:
        work: sends the request.
        what: the request as an infinitive, for messages: "create user/name".
        deadline: seconds after which no new attempt begins, by default `DEADLINE`.
        repeatable: whether to retry when the answer was lost, and the request may already have taken effect.

    Returns:
        The result of `work`.

    Raises:
        PushError: if the request fails for good; its cause is the last error.
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
                constants.HF_HUB_DISABLE_XET = True  # a Hub without Xet storage takes large files as LFS
                continue
            pause = retry_after(error)
            pause = wait * random.uniform(0.5, 1.0) if pause is None else pause
            lost = not repeatable and status_of(error) is None
            if lost or not is_transient(error) or time.monotonic() - started + pause > deadline:
                raise PushError(f"could not {what}: {describe(error)}") from error
            print(f"Could not {what} ({describe(error)}); trying again in {pause:.1f} s.", file=sys.stderr)
            time.sleep(pause)
            wait = min(2 * wait, LONGEST_WAIT)


def describe(error: BaseException) -> str:
    """The first line of an error and of each of its causes, without tokens."""
    lines: list[str] = []
    for cause in _causes(error):
        first = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        if first not in " ".join(lines):
            lines.append(first)
    return without_tokens("; ".join(lines))


def without_tokens(text: str) -> str:
    """Mask everything in the text that is or looks like a token."""
    token = get_token()
    if token:
        text = text.replace(token, "hf_***")
    return TOKEN.sub("hf_***", text)


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status behind an error, if any."""
    for cause in _causes(error):
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status is not None:
            return status
    return None


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    status = status_of(error)
    if status is not None:
        # The upload address of a large file expires; a new attempt gets a new one.
        return status in TRANSIENT or (status == 403 and isinstance(error, RuntimeError) and "uploading" in str(error))
    return not isinstance(error, ValueError) or type(error).__name__ == "JSONDecodeError"


def retry_after(error: BaseException) -> float | None:
    """Seconds that the Hub asks to wait, at most 60; None if it does not say."""
    for cause in _causes(error):
        value = (getattr(getattr(cause, "response", None), "headers", None) or {}).get("Retry-After")
        if value is not None and re.fullmatch(r"\d+(\.\d+)?", value):
            return min(float(value), 60.0)
    return None


def _whoami(api: HfApi) -> dict:
    try:
        return retried(api.whoami, "check the token", min(DEADLINE, FIRST_DEADLINE))
    except PushError as error:
        if status_of(error.__cause__) in (401, 403):
            raise UserError(
                "the Hub does not accept the token: create a new one, and set HF_TOKEN or run `hf auth login`. "
                f"({error})"
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
                f"the Hub does not know the licence {license!r}: give one of its ids, such as mit or other. ({error})"
            ) from error
        raise


def _ask_to_write(api: HfApi, repo_id: str, revision: str) -> None:
    """Send the first request of an upload, which needs write access and changes nothing."""
    response = get_session().post(
        f"{api.endpoint}/api/models/{repo_id}/preupload/{revision.replace('/', '%2F')}",
        headers=build_hf_headers(token=api.token, library_name=api.library_name, library_version=api.library_version),
        json={"files": [{"path": "README.md", "sample": "", "size": 0}]},
    )
    hf_raise_for_status(response)


def _errors() -> tuple[type[Exception], ...]:
    """Exceptions of the client; a lost connection raises that of the HTTP library in use."""
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
