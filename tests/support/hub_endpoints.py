"""Answers of the loopback Hub to the requests of huggingface_hub, by method and path."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

import yaml

from support.hub_repository import Commit, HubError, Repository, is_lfs

if TYPE_CHECKING:
    from support.hub_server import HubServer

LICENSES = ("mit", "apache-2.0", "openrail", "creativeml-openrail-m", "cc-by-4.0", "cc0-1.0", "other")


@dataclass(frozen=True)
class Request:
    """A request to an endpoint."""

    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    def option(self, name: str, default: str = "") -> str:
        """A parameter of the query."""
        return parse_qs(self.query).get(name, [default])[0]


@dataclass(frozen=True)
class Answer:
    """The answer of an endpoint: bytes are sent as they are, everything else as JSON."""

    content: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False  # close the connection instead


def _page(hub: HubServer, request: Request, entries: list[Any]) -> Answer:
    start = int(request.option("cursor", "0"))
    stop = start + hub.page_size
    query = urlencode({**parse_qs(request.query), "cursor": stop}, doseq=True)
    headers = {"Link": f'<{hub.url}{request.path}?{query}>; rel="next"'} if stop < len(entries) else {}
    return Answer(entries[start:stop], headers=headers)


# --- endpoints that read --------------------------------------------------------------------------------------------


def _info(hub: HubServer, request: Request, id: str, revision: str = "main") -> Answer:
    repository = hub.repository(id)
    commit = repository.resolve(revision)
    entries = [file.as_json() for _, file in sorted(commit.files.items())]
    siblings = [{**entry, "rfilename": entry["path"], "blobId": entry["oid"]} for entry in entries]
    space = {} if repository.sdk is None else {"sdk": repository.sdk}
    return Answer(
        {"id": id, "sha": commit.oid, "private": repository.private, "tags": [], "siblings": siblings, **space}
    )


def _tree(hub: HubServer, request: Request, id: str, revision: str, path: str = "") -> Answer:
    recursive = request.option("recursive").lower() == "true"
    return _page(hub, request, hub.repository(id).resolve(revision).tree(path, recursive))


def _refs(hub: HubServer, request: Request, id: str) -> Answer:
    repository = hub.repository(id)

    def listed(folder: str, refs: Mapping[str, str]) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": oid} for name, oid in refs.items()]

    heads = {name: oid for name, oid in repository.branches.items() if not name.startswith("refs/")}
    pulls = [
        {"name": name.removeprefix("refs/"), "ref": name, "targetCommit": oid}
        for name, oid in repository.branches.items()
        if name not in heads
    ]
    refs = {"branches": listed("heads", heads), "tags": listed("tags", repository.tags), "converts": []}
    return Answer(refs | ({"pullRequests": pulls} if request.option("include_prs") else {}))


def _discussions(hub: HubServer, request: Request, id: str) -> Answer:
    """The pull requests, newest first; there are no other discussions."""
    wanted = request.option("author")
    entries = [
        {
            "num": pull.number,
            "title": pull.title,
            "author": {"name": pull.author},
            "createdAt": "2024-01-01T00:00:00.000Z",
            "status": "open",
            "repo": {"name": id, "type": "model"},
            "isPullRequest": True,
        }
        for pull in reversed(hub.repository(id).pull_requests)
        if wanted in ("", pull.author)
    ]
    start = int(request.option("p", "0")) * hub.page_size
    page = entries[start : start + hub.page_size]
    return Answer({"discussions": page, "count": len(entries), "start": start})


def _commits(hub: HubServer, request: Request, id: str, revision: str) -> Answer:
    commits = [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.message,
            "date": commit.date.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "authors": [{"user": id.split("/")[0]}],
        }
        for commit in hub.repository(id).history(revision)
    ]
    return _page(hub, request, commits)


def _resolve(hub: HubServer, request: Request, id: str, revision: str, path: str) -> Answer:
    commit = hub.repository(id).resolve(revision)
    file = commit.file(path)
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.etag}"'}
    if not is_lfs(path):
        return Answer(file.content, headers=headers)
    headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.content))}
    return Answer(status=302, headers={**headers, "Location": f"{hub.storage_url}/storage/{file.etag}"})


def _whoami(hub: HubServer, request: Request) -> Answer:
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token not in hub.tokens:
        raise HubError(401, "Invalid credentials in Authorization header")
    user, role = hub.tokens[token]
    access = {"type": "access_token", "accessToken": {"displayName": "test", "role": role}}
    return Answer({"type": "user", "name": user, "auth": access, "orgs": []})


def _validate_yaml(hub: HubServer, request: Request) -> Answer:
    front = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", request.json()["content"], re.DOTALL)
    if front is None:
        return Answer({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
    try:
        data = yaml.safe_load(front[1])
        errors = _refused(data if isinstance(data, dict) else {})
    except yaml.YAMLError as error:
        errors = [str(error)]
    if errors:
        return Answer({"errors": [{"message": error} for error in errors], "warnings": []}, status=400)
    return Answer({"errors": [], "warnings": []})


def _refused(card: dict[str, Any]) -> list[str]:
    """Errors in the metadata of a card, some of those that the Hub finds."""
    errors = []
    if card.get("license") not in (None, *LICENSES):
        errors.append('"license" must be one of the known ones')
    if card.get("pipeline_tag") not in (None, "image-to-image", "unconditional-image-generation", "feature-extraction"):
        errors.append('"pipeline_tag" must be one of the known ones')
    for name in ("base_model", "datasets"):
        for value in [card[name]] if isinstance(card.get(name), str) else card.get(name) or []:
            if not re.fullmatch(r"([\w.-]+/)?[\w.-]+", value):
                errors.append(f'"{name}" with value "{value}" is not valid. Use an id from the Hub.')
    for model in card.get("model-index") or []:
        for result in model["results"]:
            if not all(result[part].get("type") for part in ("task", "dataset")) or not result["dataset"].get("name"):
                errors.append('"model-index" has a result without the type of its task or data set')
            if not all(isinstance(metric.get("value"), (int, float, str)) for metric in result["metrics"]):
                errors.append('"model-index" has a metric without a value')
    return errors


# --- endpoints that write -------------------------------------------------------------------------------------------


def _create_repo(hub: HubServer, request: Request) -> Answer:
    wanted = request.json()
    kind = wanted.get("type", "model")
    if kind not in ("model", "space"):
        raise HubError(501, "The loopback Hub has only models and Spaces.")
    name = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
    repo_id = name if kind == "model" else f"spaces/{name}"
    url = {"url": f"{hub.url}/{repo_id}"}
    if name.split("/")[0] != hub.user(request.headers):
        raise HubError(403, "You cannot create repositories under that name.")
    if repo_id in hub.repositories:
        return Answer({"error": f"You already created this {kind} repo", **url}, status=409)
    private = wanted.get("visibility") == "private"
    hub.repositories[repo_id] = Repository(repo_id, private=private, sdk=wanted.get("sdk"))
    return Answer(url)


def _delete_repo(hub: HubServer, request: Request) -> Answer:
    wanted = request.json()
    repo_id = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
    hub.repository(repo_id)
    if repo_id.split("/")[0] != hub.user(request.headers):
        raise HubError(403, "You cannot delete repositories under that name.")
    del hub.repositories[repo_id]
    return Answer({})


def _create_branch(hub: HubServer, request: Request, id: str, name: str) -> Answer:
    repository = hub.repository(id)
    if name in repository.branches:
        raise HubError(409, f"Reference already exists: {name}")
    repository.branches[name] = repository.resolve(request.json().get("startingPoint", "main")).oid
    return Answer({})


def _create_tag(hub: HubServer, request: Request, id: str, revision: str) -> Answer:
    repository = hub.repository(id)
    name = request.json()["tag"]
    if name in repository.tags:
        raise HubError(409, f"Tag already exists: {name}")
    repository.tags[name] = repository.resolve(revision).oid
    return Answer({})


def _delete_tag(hub: HubServer, request: Request, id: str, revision: str) -> Answer:
    if hub.repository(id).tags.pop(revision, None) is None:
        raise HubError(404, f"No such tag: {revision}", "RevisionNotFound")
    return Answer({})


def _preupload(hub: HubServer, request: Request, id: str, revision: str) -> Answer:
    present = hub.repository(id).resolve(revision).files

    def plan(path: str) -> dict[str, Any]:
        mode = {"path": path, "uploadMode": "lfs" if is_lfs(path) else "regular", "shouldIgnore": False}
        return {**mode, "oid": present[path].etag} if path in present else mode

    return Answer({"files": [plan(file["path"]) for file in request.json()["files"]]})


def _lfs_batch(hub: HubServer, request: Request, id: str) -> Answer:
    hub.repository(id)

    def plan(oid: str, size: int) -> dict[str, Any]:
        upload = {"href": f"{hub.storage_url}/storage/{oid}"}
        verify = {"href": f"{hub.url}/{id}.git/info/lfs/objects/verify"}
        return {
            "oid": oid,
            "size": size,
            **({} if oid in hub.objects else {"actions": {"upload": upload, "verify": verify}}),
        }

    return Answer({"transfer": "basic", "objects": [plan(**wanted) for wanted in request.json()["objects"]]})


def _lfs_verify(hub: HubServer, request: Request, id: str) -> Answer:
    wanted = request.json()
    if wanted["oid"] not in hub.objects:
        raise HubError(404, f"{wanted['oid']} was not uploaded.")
    return Answer({})


def _commit(hub: HubServer, request: Request, id: str, revision: str) -> Answer:
    repository = hub.repository(id)
    header: dict[str, str] = {}
    changes: dict[str, bytes | None] = {}
    for line in map(json.loads, request.body.splitlines()):
        key, value = line["key"], line["value"]
        if key == "header":
            header = value
        elif key == "file":
            changes[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            if value["oid"] not in hub.objects:
                raise HubError(400, f"{value['path']} was not uploaded before the commit.")
            changes[value["path"]] = hub.objects[value["oid"]]
        elif key == "deletedFile":
            changes[value["path"]] = None
        elif key == "deletedFolder":
            entries = repository.resolve(revision).tree(value["path"].rstrip("/"), recursive=True)
            changes |= {entry["path"]: None for entry in entries if entry["type"] == "file"}
        else:
            raise HubError(400, f"The loopback Hub cannot commit a {key}.")
    summary, description, parent = header["summary"], header["description"], header.get("parentCommit")
    if not request.option("create_pr"):
        return Answer(_committed(hub, id, repository.commit(changes, summary, description, revision, parent)))
    if parent not in (None, repository.resolve(revision).oid):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    proposed = repository.open_pull_request(revision, summary, hub.user(request.headers) or "")
    answer = _committed(hub, id, repository.commit(changes, summary, description, proposed.branch))
    return Answer({**answer, "pullRequestUrl": f"{hub.url}/{id}/discussions/{proposed.number}"})


def _committed(hub: HubServer, id: str, commit: Commit) -> dict[str, str]:
    return {"commitOid": commit.oid, "commitUrl": f"{hub.url}/{id}/commit/{commit.oid}"}


# --- the storage of large files, which takes and gives content by its SHA-256 --------------------------------------


def _storage(hub: HubServer, request: Request) -> str:
    if "Authorization" in request.headers:
        raise HubError(400, "The address is signed: the token of the Hub has no business here.")
    return request.path.rpartition("/")[2]


def _storage_get(hub: HubServer, request: Request) -> Answer:
    oid = _storage(hub, request)
    if oid not in hub.objects:
        raise HubError(404, f"{oid} is not stored.")
    return Answer(hub.objects[oid], headers={"ETag": f'"{oid}"'})


def _storage_put(hub: HubServer, request: Request) -> Answer:
    oid = _storage(hub, request)
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise HubError(400, f"What was sent is not {oid}.")
    hub.objects[oid] = request.body
    return Answer()


Endpoint = Callable[..., Answer]
Routes = Mapping[tuple[str, str], Endpoint]

REPO = r"(?P<id>(?:spaces/)?[^/]+/[^/]+)"  # a Space is stored under spaces/user/name
API = rf"/api/(?:models/(?!spaces/)|(?=spaces/)){REPO}"
REVISION = r"(?P<revision>[^/]+)"  # a slash in it comes as %2F

READS: Routes = {
    ("GET", "/api/whoami-v2"): _whoami,
    ("GET", API): _info,
    ("GET", rf"{API}/revision/{REVISION}"): _info,
    ("GET", rf"{API}/tree/{REVISION}(/(?P<path>.+))?"): _tree,
    ("GET", rf"{API}/refs"): _refs,
    ("GET", rf"{API}/commits/{REVISION}"): _commits,
    ("GET", rf"{API}/discussions"): _discussions,
    ("GET HEAD", rf"/{REPO}/resolve/{REVISION}/(?P<path>.+)"): _resolve,
    ("POST", "/api/validate-yaml"): _validate_yaml,
}
WRITES: Routes = {
    ("POST", "/api/repos/create"): _create_repo,
    ("DELETE", "/api/repos/delete"): _delete_repo,
    ("POST", rf"{API}/branch/(?P<name>[^/]+)"): _create_branch,
    ("POST", rf"{API}/tag/{REVISION}"): _create_tag,
    ("DELETE", rf"{API}/tag/{REVISION}"): _delete_tag,
    ("POST", rf"{API}/preupload/{REVISION}"): _preupload,
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch"): _lfs_batch,
    ("POST", rf"/{REPO}\.git/info/lfs/objects/verify"): _lfs_verify,
    ("POST", rf"{API}/commit/{REVISION}"): _commit,
}
STORAGE: Routes = {
    ("GET", "/storage/[0-9a-f]{64}"): _storage_get,
    ("PUT", "/storage/[0-9a-f]{64}"): _storage_put,
}
