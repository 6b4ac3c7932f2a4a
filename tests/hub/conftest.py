"""The loopback Hub, and fresh interpreters whose huggingface_hub talks to it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import HANGS
from support.hub_server import HubServer


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
