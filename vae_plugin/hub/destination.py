"""Where a push goes: a repository and a branch, looked at before anything is sent, and created when something is."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi, ModelCard, hf_hub_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, validate_repo_id, yaml_dump

from ..errors import PushError, UserError
from .client import DEADLINE, is_transient, retried, status_of

CARD = "README.md"
REF = re.compile(r"[^\s~^:?*\[\\\x00-\x20\x7f\ud800-\udfff-][^\s~^:?*\[\\\x00-\x20\x7f\ud800-\udfff]*")
NO_REF = re.compile(r"^[/.]|\.\.|//|/\.|@\{|^@$|\.lock(/|$)|[/.]$")  # see `git help check-ref-format`
WITHOUT_DISCUSSIONS = (403, 404, 405, 410, 501)  # statuses of a list of discussions that there is not
FIRST_DEADLINE = 30.0  # seconds for the first request: a Hub that is out of reach now is likely to stay so


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


def check_ref(name: str, option: str) -> str:
    """Return the name of a branch or tag, if git can have it.

    Raises:
        UserError: otherwise; `option` is for the message.
    """
    if REF.fullmatch(name) is None or NO_REF.search(name):
        raise UserError(
            f"{option} {name!r} cannot be the name of a branch or tag: use letters, digits, '-', '_', '.' and single "
            "slashes."
        )
    return name


def check_proposal(revision: str | None, tag: str | None) -> None:
    """Refuse what a pull request cannot have.

    Raises:
        UserError: for a branch other than main, and for a tag.
    """
    if revision not in (None, "main"):
        raise UserError("--create_pr proposes a change of main: leave --revision out.")
    if tag is not None:
        raise UserError("--tag has no effect with --create_pr: leave it out, and set the tag after the merge.")


@dataclass(frozen=True)
class State:
    """The files of a revision.

    Attributes:
        head: its commit; None if there is none yet.
        revision: that has these files, in the words of the Hub: the commit, or the branch of a pull request.
        files: by path.
    """

    head: str | None = None
    revision: str | None = None
    files: Mapping[str, RepoFile] = field(default_factory=dict)


@dataclass
class Destination:
    """A branch of a repository on the Hub, which may not exist yet.

    Attributes:
        api: client.
        repo_id: user/name.
        revision: branch; None is main.
        create_pr: whether a pull request to it is opened.
        private: whether a new repository is private.
        user: name of the token's user, if the Hub tells.
        exists: whether the repository exists.
        created: head of the repository, if `create` has made it; "" if it has no commit.
    """

    api: HfApi
    repo_id: str
    revision: str | None = None
    create_pr: bool = False
    private: bool = False
    user: str | None = None
    exists: bool = False
    created: str | None = None

    @property
    def address(self) -> str:
        """The page of the repository."""
        return f"{self.api.endpoint}/{self.repo_id}"

    def state(self, revision: str | None = None) -> State:
        """The files of a revision, by default those of the branch or, where it does not exist yet, of main."""
        if not self.exists:
            return State()
        return retried(partial(self._state, revision or self.revision), f"list the files of {self.repo_id}")

    def card(self, state: State) -> bytes:
        """The card in a commit, b"" if there is none."""
        if CARD not in state.files:  # the client takes a file that is out of reach for a missing one
            return b""
        return retried(partial(self._card, state.revision), f"read the card of {self.repo_id}")

    def tags(self) -> dict[str, str]:
        """Tag -> commit."""
        if not self.exists:
            return {}
        refs = retried(partial(self.api.list_repo_refs, self.repo_id), f"list the tags of {self.repo_id}")
        return {tag.name: tag.target_commit for tag in refs.tags}

    def check_card(self, card: str) -> None:
        """Have the Hub check the metadata of a card.

        Raises:
            PushError: if it refuses them, with its reasons.
        """
        retried(ModelCard(card, ignore_metadata_errors=True).validate, f"commit the card of {self.repo_id}")

    def create(self) -> None:
        """Create the repository and the branch where they do not exist, and check write access.

        Raises:
            UserError: if the token has no write access.
            PushError: if the Hub refuses, or cannot be reached; what was created is removed again.
        """
        if self.create_pr:
            return
        with self.refusal_leaves_nothing(), _access(self.repo_id):
            if not self.exists:
                retried(self._create, f"create {self.repo_id}")
            branch = self.revision
            if branch is not None and not branch.startswith("refs/"):
                retried(
                    lambda: self.api.create_branch(self.repo_id, branch=branch, exist_ok=True),
                    f"create the branch {branch}",
                )
            retried(self._ask_to_write, f"check write access to {self.repo_id}")

    @contextmanager
    def refusal_leaves_nothing(self) -> Iterator[None]:
        """Remove a repository that was created for this push, and is still empty, if the Hub refuses the push."""
        try:
            yield
        except (UserError, PushError) as error:
            cause = error.__cause__
            if self.created is not None and (cause is None or not is_transient(cause)):
                self._remove()
            raise

    def pull_requests(self) -> list[tuple[int, str]]:
        """Number and title of the open pull requests of the token's user, the newest first.

        A Hub without discussions gives those of everybody, without titles.
        """
        what = f"list the pull requests of {self.repo_id}"

        def discussed() -> list[tuple[int, str]]:
            mine = self.api.get_repo_discussions(
                self.repo_id, author=self.user, discussion_type="pull_request", discussion_status="open"
            )
            return [(request.num, request.title) for request in mine]

        def by_branch() -> list[tuple[int, str]]:
            refs = self.api.list_repo_refs(self.repo_id, include_pull_requests=True).pull_requests or []
            return [(int(ref.ref.rpartition("/")[2]), "") for ref in refs]

        try:
            found = retried(discussed, what)
        except PushError as error:
            if status_of(error) not in WITHOUT_DISCUSSIONS:
                raise
            found = retried(by_branch, what)
        return sorted(found, reverse=True)

    def commit_info(self, commit: str | None, message: str, pull_request: int | None = None) -> CommitInfo:
        """What `push` returns for a commit that exists."""
        return CommitInfo(
            commit_url=f"{self.address}/commit/{commit}",
            commit_message=message,
            commit_description="",
            oid=commit or "",
            pr_url=None if pull_request is None else f"{self.address}/discussions/{pull_request}",
        )

    def set_tag(self, tag: str, commit: str, move: bool = False) -> None:
        """Set a tag; set already is as good.

        Raises:
            PushError: if it stands elsewhere and is not to be moved.
        """

        def attempt() -> None:
            at = self.tags().get(tag)
            if at == commit:
                return
            if at is not None:
                if not move:
                    raise PushError(f"{self.repo_id} has got the tag {tag} from somebody else meanwhile.")
                self.api.delete_tag(self.repo_id, tag=tag)
            self.api.create_tag(self.repo_id, tag=tag, revision=commit)

        retried(attempt, f"set the tag {tag}")

    def _state(self, revision: str | None) -> State:
        try:
            head = self.api.model_info(self.repo_id, revision=revision).sha
        except RevisionNotFoundError:
            if revision is None or revision.startswith("refs/"):
                raise
            head = self.api.model_info(self.repo_id).sha  # of which the branch will be made
        if head is None:
            return State()
        at = revision if revision is not None and revision.startswith("refs/") else head
        files = self.api.list_repo_tree(self.repo_id, recursive=True, revision=at)
        return State(head, at, {file.path: file for file in files if isinstance(file, RepoFile)})

    def _card(self, revision: str | None) -> bytes:
        with tempfile.TemporaryDirectory() as folder:  # not the cache, which would take this commit for `main`
            path = hf_hub_download(
                self.repo_id, CARD, revision=revision, local_dir=folder, endpoint=self.api.endpoint,
                token=self.api.token, library_name=self.api.library_name, library_version=self.api.library_version,
            )  # fmt: skip
            return Path(path).read_bytes()

    def _create(self) -> None:
        try:
            self.api.create_repo(self.repo_id, private=self.private or None)
        except Exception as error:
            if status_of(error) != 409:  # made meanwhile, by somebody or by an attempt whose answer was lost
                raise
        else:
            self.created = self.api.model_info(self.repo_id).sha or ""
        self.exists = True

    def _remove(self) -> None:
        try:
            if (self.api.model_info(self.repo_id).sha or "") == self.created:
                self.api.delete_repo(self.repo_id)
        except Exception as error:  # the refusal itself is what the user has to see
            print(f"{self.address} was created, and stays empty ({type(error).__name__}).", file=sys.stderr)
        else:
            self.exists, self.created = False, None

    def _ask_to_write(self) -> None:
        """Send the first request of an upload, which needs write access and changes nothing."""
        api = self.api
        response = get_session().post(
            f"{api.endpoint}/api/models/{self.repo_id}/preupload/{(self.revision or 'main').replace('/', '%2F')}",
            headers=build_hf_headers(
                token=api.token, library_name=api.library_name, library_version=api.library_version
            ),
            json={"files": [{"path": CARD, "sample": "", "size": 0}]},
        )
        hf_raise_for_status(response)


def find_destination(
    api: HfApi,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    license: str | None = None,
) -> Destination:
    """Look at the place of a push, before any long work begins; nothing is changed.

    Args:
        api: client from `hub_api`.
        repo_id: user/name, or only the name for a repository of the token's user.
        private: make a new repository private; an existing one does not change.
        revision: branch, created if it does not exist.
        create_pr: whether a pull request will be opened, which needs no write access.
        license: licence for the card.

    Raises:
        UserError: if the token is not accepted or cannot write, or the Hub does not know the licence or has no such
            repository for a pull request.
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
    place = Destination(api, repo_id, revision, create_pr, private, user.get("name"))
    with _access(repo_id):
        try:
            retried(lambda: api.model_info(repo_id), f"find {repo_id}")
            place.exists = True
        except PushError as error:
            missing = status_of(error) in (401, 404) and not isinstance(error.__cause__, GatedRepoError)
            if create_pr or not missing:
                raise
    return place


@contextmanager
def _access(repo_id: str) -> Iterator[None]:
    """Turn refusals of the Hub into mistakes of the user."""
    try:
        yield
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
