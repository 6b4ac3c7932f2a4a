"""A Hub on the loopback interface, complete enough for the real huggingface_hub client to load and push models.

    with HubServer() as hub:
        hub.commit("user/vae", "path/to/folder")
        subprocess.run([sys.executable, "script.py"], env=hub.environment(tmp_path), check=True)
        assert ("GET", "/api/models/user/vae") in hub.requests

The client reads `HF_ENDPOINT` when it is imported, so it needs a fresh interpreter (or `HfApi(endpoint=hub.url)`), and
large files are sent as LFS (`HF_HUB_DISABLE_XET=1`). There are no datasets and no Spaces; a pull request has a branch
`refs/pr/N` and no discussion.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from support.hub_endpoints import READS, STORAGE, WRITES, Answer, Request, Routes
from support.hub_faults import Fault, Faults
from support.hub_repository import HubError, Repository, is_lfs

FOREIGN_SETTINGS = re.compile(r"(hf|hugging\w*|diffusers|transformers)_\w+|\w+_proxy", re.IGNORECASE)


class HubServer:
    """The Hub, running from `__enter__` to `__exit__`.

    Attributes:
        url: the endpoint.
        storage_url: the origin of large files, which refuses the client's token.
        repositories: id -> repository.
        objects: SHA-256 -> large file.
        requests: (method, path with query) of every request to either origin, in order.
        page_size: number of entries in a page of a listing.
        tokens: token -> its user and "write" or "read".
        faults: faults to come.
    """

    def __init__(self, page_size: int = 1000) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.page_size = page_size
        self.tokens = {"hf_loopback": ("user", "write"), "hf_reader": ("user", "read")}
        self.faults = Faults()
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._servers = ExitStack()

    def __enter__(self) -> HubServer:
        self.url = self._serve({**READS, **WRITES})
        self.storage_url = self._serve(STORAGE)
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopping.set()
        self._servers.close()

    def _serve(self, routes: Routes) -> str:
        handler = type("Handler", (_Handler,), {"hub": self, "routes": routes})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self._servers.callback(server.server_close)
        self._servers.callback(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}"

    def environment(self, home: str | Path) -> dict[str, str]:
        """Environment of a process whose client uses this Hub with a token, and has its cache in `home`."""
        return {
            **{name: value for name, value in os.environ.items() if not FOREIGN_SETTINGS.fullmatch(name)},
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": "hf_loopback",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }

    def fail(self, pattern: str, status: int, times: int = 1) -> None:
        """Answer the next `times` requests whose "METHOD /path?query" contains the pattern with an error."""
        self.faults.fail(pattern, status, times)

    def commit(
        self, repo_id: str, files: str | Path | Mapping[str, bytes | None], title: str = "Upload", branch: str = "main"
    ) -> str:
        """Commit a folder, or contents by path (None deletes), without a client; return the id of the commit.

        The repository and the branch (from main) are created if they do not exist.
        """
        if not isinstance(files, Mapping):
            root = Path(files)
            files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        with self._lock:
            repository = self.repositories.setdefault(repo_id, Repository(repo_id))
            repository.branches.setdefault(branch, repository.branches["main"])
            commit = repository.commit(files, title, branch=branch)
            self.objects |= {file.etag: file.content for path, file in commit.files.items() if is_lfs(path)}
            return commit.oid

    def repository(self, repo_id: str) -> Repository:
        """The repository, or 404 RepoNotFound."""
        if repo_id not in self.repositories:
            raise HubError(404, "Repository not found", "RepoNotFound")
        return self.repositories[repo_id]

    def user(self, headers: Mapping[str, str]) -> str | None:
        """The user whose token the request has."""
        return self.tokens.get(headers.get("Authorization", "").removeprefix("Bearer "), (None, ""))[0]

    def answer(self, routes: Routes, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Record a request, and answer it or let it fail."""
        with self._lock:
            self.requests.append((method, target))
            fault = self.faults.next(f"{method} {target}") or Fault(re.compile(""))
            try:
                if fault.status is None or fault.after:
                    answer = self._dispatch(routes, method, target, headers, body)
                if fault.status is not None:
                    raise HubError(fault.status, fault.reason, headers=fault.headers)
            except HubError as error:
                answer = Answer({"error": str(error)}, error.status, error.headers)
        self.stopping.wait(fault.seconds)
        return replace(answer, cut=fault.cut)

    def _dispatch(self, routes: Routes, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        url = urlsplit(target)
        for (methods, pattern), endpoint in routes.items():
            match = re.fullmatch(pattern, url.path)
            if match is None or method not in methods.split():
                continue
            request = Request(url.path, url.query, headers, body)
            parts = {name: unquote(part) for name, part in match.groupdict().items() if part is not None}
            user, role = self.tokens.get(headers.get("Authorization", "").removeprefix("Bearer "), (None, None))
            owner = parts.get("id", "").removeprefix("spaces/").split("/")[0]
            if endpoint in WRITES.values():
                # Files are stored before it is known what they are for.
                proposes = bool(request.option("create_pr")) or "/info/lfs/" in url.path
                self._check_writer(user, role, owner, proposes)
            elif owner and routes is not STORAGE and user != owner and self._is_private(parts["id"]):
                raise HubError(404, "Repository not found", "RepoNotFound")
            return endpoint(self, request, **parts)
        raise HubError(404, f"The loopback Hub has no {method} {url.path}.")

    def _check_writer(self, user: str | None, role: str | None, owner: str, proposes: bool) -> None:
        if user is None:
            raise HubError(401, "Invalid username or password.")
        if role != "write" or (owner not in ("", user) and not proposes):
            raise HubError(403, "You have no right to write here.")

    def _is_private(self, repo_id: str) -> bool:
        return repo_id in self.repositories and self.repositories[repo_id].private


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    routes: Routes

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.hub.answer(self.routes, self.command, self.path, self.headers, body)
        if answer.cut:
            self.close_connection = True
            return
        content = answer.content if isinstance(answer.content, bytes) else json.dumps(answer.content).encode()
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _respond

    def log_message(self, *args: object) -> None:
        pass
