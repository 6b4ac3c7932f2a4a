"""The loopback Hub, and fresh interpreters whose huggingface_hub talks to it."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from support import HANGS
from support.hub_server import HubServer
from support.pushed import new_model
from vae_plugin import hub as published
from vae_plugin.hub import client


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """An empty Hub."""
    with HubServer() as hub:
        yield hub


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[..., None]:
    """`fresh(function, hub, *arguments)` calls a function that stands on its own in a new interpreter.

    It knows no Hub but `hub`, finds no file by a relative path, and keeps its cache through the test.
    """

    def run(function: Callable[..., None], hub: HubServer, *arguments: Any) -> None:
        script = tmp_path / "scripts" / f"{function.__name__}.py"
        script.parent.mkdir(exist_ok=True)
        call = f"{function.__name__}(*{arguments!r})"
        script.write_text(f"from __future__ import annotations\n\n{inspect.getsource(function)}\n\n{call}\n")
        environment = {**hub.environment(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        result = subprocess.run(
            [sys.executable, script], env=environment, cwd=script.parent, capture_output=True, text=True, timeout=HANGS
        )
        assert result.returncode == 0, f"{call} failed in a fresh interpreter:\n{result.stdout}{result.stderr}"

    return run


@pytest.fixture
def connected(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> HubServer:
    """The client of this process knows the loopback Hub only, and waits for nothing."""
    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_loopback")
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(client, "LONGEST_WAIT", 0.02)
    monkeypatch.setattr(client, "DEADLINE", 600.0)  # however busy the machine
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    return hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a run."""
    path = tmp_path / "run"
    new_model().save_pretrained(path)
    (path / "metrics.json").write_text(json.dumps({"psnr": 21.5, "num_images": 3, "steps": 9}))
    (path / "samples").mkdir()
    (path / "samples" / "prior.png").write_bytes(b"png")
    published.RunRecord(dataset="circles", pictures={"Prior": "samples/prior.png"}).save(path)
    (path / ".env").write_text("secret")
    return path
