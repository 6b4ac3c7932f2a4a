"""Model repositories in memory, for the loopback Hub: files, commits, branches and tags."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

LFS_SUFFIXES = (".bin", ".jpg", ".png", ".safetensors")


class HubError(Exception):
    """A refusal: huggingface_hub picks its exception by the status and the header X-Error-Code, not by the text."""

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message, **(headers or {})}
        if code is not None:
            self.headers["X-Error-Code"] = code


def is_lfs(path: str) -> bool:
    """Whether the Hub keeps the file in its storage for large files, by its name."""
    return path.endswith(LFS_SUFFIXES)


def git_blob_id(content: bytes) -> str:
    """The name that git gives a file of that content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class File:
    """A file of a commit."""

    path: str
    content: bytes

    @property
    def sha256(self) -> str:
        """The name of the content in the storage for large files."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def etag(self) -> str:
        """What the client names the file by in its cache, and compares before an upload."""
        return self.sha256 if is_lfs(self.path) else git_blob_id(self.content)

    def as_json(self) -> dict[str, Any]:
        """The entry in a listing; of a large file, git holds only a pointer."""
        entry = {"type": "file", "path": self.path, "size": len(self.content)}
        if not is_lfs(self.path):
            return {**entry, "oid": self.etag}
        version = "https://git-lfs.github.com/spec/v1"
        pointer = f"version {version}\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()
        lfs = {"oid": self.sha256, "sha256": self.sha256, "size": len(self.content), "pointerSize": len(pointer)}
        return {**entry, "oid": git_blob_id(pointer), "lfs": lfs}


@dataclass(frozen=True)
class Commit:
    """A state of all files of a repository."""

    oid: str
    parent: str | None
    title: str
    message: str
    files: Mapping[str, File]
    date: datetime = field(default_factory=lambda: datetime.now(UTC))

    def file(self, path: str) -> File:
        """The file at that path, or 404 EntryNotFound."""
        if path not in self.files:
            raise HubError(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": self.oid})
        return self.files[path]

    def tree(self, folder: str, recursive: bool) -> list[dict[str, Any]]:
        """The files and folders in `folder` ("" for the root), ordered by path, or 404 EntryNotFound."""
        root = PurePosixPath(folder)
        entries = {}
        for path, file in self.files.items():
            for place in (PurePosixPath(path), *PurePosixPath(path).parents):
                if root not in place.parents or not (recursive or place.parent == root):
                    continue
                directory = {"type": "directory", "path": str(place), "oid": git_blob_id(str(place).encode())}
                entries[str(place)] = file.as_json() if str(place) == path else directory
        if folder and not entries:
            raise HubError(404, f"{folder} does not exist", "EntryNotFound", {"X-Repo-Commit": self.oid})
        return [entries[path] for path in sorted(entries)]


@dataclass(frozen=True)
class PullRequest:
    """An open pull request, whose files are on the branch refs/pr/NUMBER."""

    number: int
    title: str
    author: str

    @property
    def branch(self) -> str:
        """The branch of its files."""
        return f"refs/pr/{self.number}"


@dataclass
class Repository:
    """A history of commits under branches and tags; a new one has the Hub's own first commit on main."""

    id: str
    private: bool = False
    sdk: str | None = None  # of a Space
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pull_requests: list[PullRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._add("main", None, {".gitattributes": File(".gitattributes", b"")}, "initial commit", "")

    def resolve(self, revision: str = "main") -> Commit:
        """The commit that a branch, a tag or a commit's full name stands for, or 404 RevisionNotFound."""
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def history(self, revision: str = "main") -> Iterator[Commit]:
        """The commit and its ancestors, newest first."""
        commit = self.resolve(revision)
        yield commit
        while commit.parent is not None:
            commit = self.commits[commit.parent]
            yield commit

    def commit(
        self,
        changes: Mapping[str, bytes | None],
        title: str,
        message: str = "",
        branch: str = "main",
        parent: str | None = None,
    ) -> Commit:
        """Write (bytes) or delete (None) files on a branch; 412 where `parent` is given and no longer its head."""
        if branch not in self.branches:
            raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        head = self.resolve(branch)
        if parent not in (None, head.oid):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for path, content in changes.items():
            if content is None:
                head.file(path)
                del files[path]
            else:
                files[path] = File(path, content)
        return self._add(branch, head.oid, files, title, message)

    def open_pull_request(self, branch: str = "main", title: str = "", author: str = "user") -> PullRequest:
        """A pull request whose branch is a new one from that branch."""
        request = PullRequest(len(self.pull_requests) + 1, title, author)
        self.branches[request.branch] = self.resolve(branch).oid
        self.pull_requests.append(request)
        return request

    def _add(self, branch: str, parent: str | None, files: dict[str, File], title: str, message: str) -> Commit:
        state = [self.id, parent, title, message, *(f"{path} {files[path].etag}" for path in sorted(files))]
        oid = hashlib.sha1(repr(state).encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, title, message, files)
        self.branches[branch] = oid
        return self.commits[oid]
