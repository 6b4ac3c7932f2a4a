"""How long a push waits: for a silent server, and when the Hub asks it to."""

from __future__ import annotations

import importlib
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import huggingface_hub
from huggingface_hub.utils import get_session, hf_raise_for_status

REQUEST_TIMEOUT = 60.0  # seconds without sending or receiving a byte
RATE_LIMITED = (429, 503)  # statuses whose answer may say how long to wait

_pushes = 0
_lock = threading.Lock()


@contextmanager
def bounded_waiting() -> Iterator[None]:
    """Give every request to the Hub a timeout while the block runs; the client has none for most of them.

    An answer that says how long to wait is raised as an error, for `client.retried`.
    """
    global _pushes
    with _lock:
        _pushes += 1
        _watch_new_clients()
    watch_client()
    try:
        yield
    finally:
        with _lock:
            _pushes -= 1


def watch_client() -> None:
    """Watch the requests of the client that is in use now, which huggingface_hub may have replaced."""
    client: Any = get_session()
    if hasattr(client, "event_hooks"):  # one of httpx
        _add_hooks(client)


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait before the next request, from the headers of a refusal; None if they do not say.

    The larger of `Retry-After` (RFC 9110, seconds or a date) and of `RateLimit` (draft-ietf-httpapi-ratelimit-headers:
    `"api";r=0;t=55`, where the window of a quota with nothing remaining ends after t seconds).
    """
    given = {name.lower(): value for name, value in headers.items()}
    waits = [_retry_after(given), *_exhausted(given.get("ratelimit", ""))]
    return max((wait for wait in waits if wait is not None), default=None)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        then = parsedate_to_datetime(value).timestamp()
        now = parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else time.time()
    except (TypeError, ValueError):
        return None
    return max(0.0, then - now)


def _exhausted(limits: str) -> Iterator[float]:
    """Seconds until the windows of the exhausted quotas end, and one more because they are rounded."""
    for limit in limits.split(","):
        parameters = dict(re.findall(r";\s*([a-z]\w*)\s*=\s*(\d+)", limit))
        if parameters.get("r") == "0" and "t" in parameters:
            yield float(parameters["t"]) + 1.0


def _watch_new_clients() -> None:
    """Have clients that huggingface_hub makes from now on watched; it replaces a client that found no connection.

    `set_client_factory` would close the present client under the feet of other threads.
    """
    http: Any = importlib.import_module("huggingface_hub.utils._http")
    make = getattr(http, "_GLOBAL_CLIENT_FACTORY", None)
    if make is None or hasattr(make, "watched") or not hasattr(huggingface_hub, "set_client_factory"):
        return

    def factory() -> Any:
        client = make()
        _add_hooks(client)
        return client

    factory.watched = True  # type: ignore[attr-defined]
    http._GLOBAL_CLIENT_FACTORY = factory


def _add_hooks(client: Any) -> None:
    hooks = client.event_hooks
    if _limit not in hooks["request"]:
        client.event_hooks = {"request": [*hooks["request"], _limit], "response": [*hooks["response"], _refuse]}


def _limit(request: Any) -> None:
    """Set the timeouts that the request has not."""
    if _pushes:
        given = request.extensions.get("timeout") or {}
        limits = {name: given.get(name) or REQUEST_TIMEOUT for name in ("connect", "read", "write", "pool")}
        request.extensions = {**request.extensions, "timeout": limits}


def _refuse(response: Any) -> None:
    """Raise an answer that names a wait: the retries inside huggingface_hub would sleep for any time, in silence."""
    if _pushes and response.status_code in RATE_LIMITED and asked_wait(response.headers) is not None:
        response.read()
        hf_raise_for_status(response)
