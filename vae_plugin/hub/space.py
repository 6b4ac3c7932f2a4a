"""A page that the Hub serves: one HTML file in a static Space."""

from __future__ import annotations

from collections.abc import Sequence

from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import yaml_dump

from ..errors import PushError, UserError
from .client import hub_api, retried
from .destination import CARD, check_repo_id
from .waiting import bounded_waiting

INDEX = "index.html"
STATIC = "static"


def check_space(repo_id: str) -> None:
    """Refuse, before a page is made, a Space that cannot be published at its end.

    Raises:
        UserError: if there is no such place on the Hub, or no token.
    """
    check_repo_id(repo_id)
    hub_api()


def address_of(repo_id: str) -> str:
    """The address of a Space."""
    return f"{constants.ENDPOINT}/spaces/{repo_id}"


def push_page(
    page: str,
    repo_id: str,
    *,
    title: str,
    models: Sequence[str] = (),
    private: bool = False,
    token: str | None = None,
) -> CommitInfo:
    """Publish a page as a static Space, in one commit.

    A Space that is there keeps its README.md, whatever it says.

    Args:
        page: HTML that needs no other file.
        repo_id: user/name, created if it does not exist.
        title: of a new Space.
        models: Hub ids of the models that it shows; the Hub names a new Space on their pages.
        private: make a new Space private.
        token: by default that of HF_TOKEN or `hf auth login`.

    Returns:
        huggingface_hub's `CommitInfo`; the page is at `commit_url` without its commit.

    Raises:
        UserError: if there is no token, or the Space runs a program.
        PushError: if the Hub does not accept the push.
    """
    check_repo_id(repo_id)
    api = hub_api(token)
    with bounded_waiting():
        files = _files_of_static(api, repo_id)
        if files is None:
            retried(
                lambda: api.create_repo(repo_id, repo_type="space", space_sdk=STATIC, private=private, exist_ok=True),
                f"create the Space {repo_id}",
            )
        operations = [CommitOperationAdd(INDEX, page.encode())]
        if files is None or CARD not in files:
            operations.append(CommitOperationAdd(CARD, _card(title, models).encode()))
        return retried(
            lambda: api.create_commit(repo_id, operations, commit_message=f"Upload {title}"[:72], repo_type="space"),
            f"push to the Space {repo_id}",
        )


def _files_of_static(api: HfApi, repo_id: str) -> set[str] | None:
    """The names of the files of a static Space; None if there is no such Space.

    Raises:
        UserError: if it has another SDK, and so would not show the page.
    """
    try:
        info = retried(lambda: api.space_info(repo_id), f"look up the Space {repo_id}")
    except PushError as error:
        if isinstance(error.__cause__, RepositoryNotFoundError):
            return None
        raise
    if info.sdk not in (None, STATIC):
        raise UserError(
            f"the Space {repo_id} runs {info.sdk}, and would not show a page: give the name of a static Space, or a "
            "new name."
        )
    return {file.rfilename for file in info.siblings or ()}


def _card(title: str, models: Sequence[str]) -> str:
    """README.md of the Space; the Hub reads from it how to serve the files."""
    metadata = {"title": title, "sdk": STATIC, "pinned": False, **({"models": list(models)} if models else {})}
    return f"---\n{yaml_dump(metadata)}---\n"
