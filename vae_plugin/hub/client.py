"""Requests to the Hub: with a deadline, retried where that helps, never showing a token."""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from ..errors import PushError, UserError
from ..version import __version__
from .waiting import asked_wait, watch_client

T = TypeVar("T")

DEADLINE = 120.0  # seconds during which a request is retried
PATIENCE = 900.0  # seconds during which waits that the Hub asks for are kept; its rate limits are per 300
FIRST_WAIT, LONGEST_WAIT = 0.5, 5.0  # seconds between attempts, unless the Hub names a time
TRANSIENT = {408, 409, 425, 429, 500, 502, 503, 504}
LONGEST_REASON = 600  # characters
NOISE = re.compile(  # what the client adds to the words of the Hub
    r"\(?Request ID: [^)]*\)?|For more information check: \S+|Cannot access content at: \S+|For more details, see \S+"
    r"|(Make sure your token|Please make sure you|If you are trying to|make sure you are) .*"
)
QUERY = re.compile(r"(https?://[^\s'\"?]+)\?[^\s'\")]*")  # of an address, which may hold a signature
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


def retried(
    work: Callable[[], T], what: str, deadline: float | None = None, found: Callable[[], T | None] | None = None
) -> T:
    """Send a request. Transient errors are retried for two minutes; a wait that the Hub asks for may be longer.

    Args:
        work: sends the request.
        what: the request as an infinitive, for messages: "create user/name".
        deadline: seconds after which no new attempt begins, by default `DEADLINE`.
        found: looks for the effect of an attempt whose answer was lost, for a request that must not be sent twice.

    Returns:
        The result of `work`, or what `found` has found.

    Raises:
        PushError: if the request fails for good; its cause is the last error.
    """
    started, wait = time.monotonic(), FIRST_WAIT
    deadline = DEADLINE if deadline is None else deadline
    while True:
        watch_client()
        try:
            return work()
        except (OfflineModeIsEnabled, PushError):
            raise
        except _errors() as error:
            if _store_is_missing(error):
                constants.HF_HUB_DISABLE_XET = True  # a Hub without Xet storage takes large files as LFS
                continue
            if not is_transient(error):
                raise PushError(f"could not {what}: {describe(error)}") from error
            asked = retry_after(error)
            pause = wait * random.uniform(0.5, 1.0) if asked is None else asked
            late = time.monotonic() - started + pause > (deadline if asked is None else max(deadline, PATIENCE))
            if not late:
                print(f"Could not {what} ({describe(error)}); trying again in {pause:.1f} s.", file=sys.stderr)
                time.sleep(pause)
                wait = min(2 * wait, LONGEST_WAIT)
            try:
                effect = None if found is None else found()
            except PushError as lost:
                unknown = "; whether it took effect is not known, and the same push again will look"
                raise PushError(f"could not {what}: {describe(error)}{unknown}") from lost
            if effect is not None:
                return effect
            if late:
                hint = "" if asked is None else f" (the Hub asks to wait {asked:,.0f} s, which is too long for a push)"
                raise PushError(f"could not {what}: {describe(error)}{hint}") from error


def describe(error: BaseException) -> str:
    """What an error and its causes say, the Hub's own reason included, on one line and without tokens."""
    said: list[str] = []
    for cause in _causes(error):
        if said and type(cause).__name__ == "HTTPStatusError":  # the status and address again
            continue
        lines = [line.strip() for line in str(cause).splitlines()] or [type(cause).__name__]
        reason = getattr(cause, "server_message", None)
        for line in [*lines, *(str(reason).splitlines() if reason else [])]:
            line = QUERY.sub(r"\1", NOISE.sub("", line)).strip()
            if line and line not in " ".join(said):
                said.append(line)
    text = without_tokens("; ".join(said).replace(":;", ":").replace(".;", ".")) or type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]} ..."


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
    """Seconds that the Hub asks to wait; None if it does not say."""
    for cause in _causes(error):
        headers = getattr(getattr(cause, "response", None), "headers", None)
        if headers is not None:
            return asked_wait(headers)
    return None


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
