"""A notebook server and a browser for tests: JupyterLab or Notebook on the loopback, headless Chromium."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import nbformat
import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NO_NEWS = {"fetchNews": "false", "checkForUpdates": False}
LIMIT = 300  # seconds until a wait gives up; never reached, however busy the machine


def need(module: str) -> None:
    """Skip a test where a module is not installed."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install 'vae-plugin[test]'")


def browser_path() -> str | None:
    """Path of an installed browser, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def free_port() -> int:
    """A port of the loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def notebook_server(
    folder: Path, home: Path, application: str = "jupyterlab", theme: str | None = None
) -> Iterator[str]:
    """Serve the notebooks in `folder`; yields the address. The server's own files go under `home`."""
    environment = {**os.environ, "HOME": str(home)}
    for name in ("CONFIG", "DATA", "RUNTIME"):
        environment[f"JUPYTER_{name}_DIR"] = str(home / name.lower())
    environment["JUPYTERLAB_SETTINGS_DIR"] = str(home / "settings")
    environment["JUPYTERLAB_WORKSPACES_DIR"] = str(home / "workspaces")
    environment["IPYTHONDIR"] = str(home / "ipython")
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(NO_NEWS))
    if theme:
        (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
    exposed = "LabApp" if application == "jupyterlab" else "JupyterNotebookApp"
    command = [
        *(sys.executable, "-m", application, "--no-browser", "--ip=127.0.0.1", "--allow-root"),
        *("--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.password="),
        *("--ServerApp.disable_check_xsrf=True", f"--ServerApp.root_dir={folder}"),
        f"--{exposed}.expose_app_in_browser=True",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    with served(command, environment, home / f"{application}.log", "/api/status") as address:
        yield address


@contextmanager
def served(
    command: Sequence[str], environment: dict[str, str], log_file: Path, ready: str, folder: Path | None = None
) -> Iterator[str]:
    """A server by `command` in `folder`, while it is needed; yields the address.

    It gets a free port, and another if that one was taken meanwhile. It has begun when the page `ready` is there.
    """
    for _ in range(5):
        address = f"http://127.0.0.1:{(port := free_port())}"
        with log_file.open("ab") as log:
            server = subprocess.Popen(
                [*command, f"--port={port}"],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=folder,
                start_new_session=True,
            )
        if _answers(address + ready, server):
            break
    else:
        raise RuntimeError(f"the server ended with status {server.returncode}, see {log_file}.")
    try:
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def _answers(address: str, server: subprocess.Popen) -> bool:
    """Wait until a server answers; False if its process has ended instead."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if server.poll() is not None:
            return False
        try:
            urllib.request.urlopen(address, timeout=2).close()
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
        else:
            return True
    raise RuntimeError(f"the notebook server does not answer at {address}.")


def write_notebook(path: Path, cells: Sequence[str]) -> Path:
    """Write a notebook of code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


class Browser:
    """Headless Chromium with a page; requests to other machines are refused and recorded in `outside`."""

    def __init__(self, playwright: Any, profile: Path, size: tuple[int, int] = (1400, 1500)) -> None:
        self.context = playwright.chromium.launch_persistent_context(
            str(profile),
            headless=True,
            executable_path=browser_path(),
            args=list(FLAGS),
            viewport={"width": size[0], "height": size[1]},
            accept_downloads=True,
        )
        self.outside: list[str] = []
        self.context.route("**/*", self._route)
        self.context.set_default_timeout(1000 * LIMIT)
        self._use(self.context.pages[0])

    def _use(self, page: Any) -> None:
        self.page = page
        page.on("dialog", lambda dialog: dialog.accept())
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def another(self) -> Browser:
        """The same browser with a page of its own."""
        beside = copy(self)
        beside._use(self.context.new_page())
        return beside

    def _route(self, route: Any) -> None:
        address = route.request.url
        if address.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "about:", "file:")):
            route.continue_()
        else:
            self.outside.append(address)
            route.abort()

    def open(self, server: str, name: str, application: str = "jupyterlab") -> None:
        """Open a notebook, and wait until its kernel is ready."""
        kind = "doc/tree" if application == "jupyterlab" else "notebooks"
        self.page.goto(f"{server}/{kind}/{name}?reset", wait_until="domcontentloaded")
        self.page.wait_for_function(READY)

    def run_all(self) -> None:
        """Run all cells, and wait for the last."""
        self.page.evaluate("async () => { await window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        self.page.wait_for_function(DONE)

    def python(self, code: str) -> str:
        """Run Python in the notebook's kernel, outside its cells; returns what it prints."""
        return self.page.evaluate(EXECUTE, [code, 1000 * LIMIT])

    def close(self) -> None:
        """Close the browser."""
        self.context.close()


READY = """() => {
  const session = window.jupyterapp?.shell?.currentWidget?.context?.sessionContext;
  const kernel = session?.session?.kernel;
  return Boolean(session?.isReady && kernel?.connectionStatus === 'connected' && kernel?.status === 'idle');
}"""
DONE = """() => {
  const cells = window.jupyterapp.shell.currentWidget.context.model.sharedModel.cells;
  const code = cells.filter((cell) => cell.cell_type === 'code' && cell.getSource().trim());
  return code.length > 0 && code.every((cell) => cell.execution_count !== null);
}"""
EXECUTE = """async ([code, timeout]) => {
  const kernel = window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel;
  const future = kernel.requestExecute({ code, store_history: false, silent: false });
  let text = '';
  future.onIOPub = (message) => {
    if (message.header.msg_type === 'stream') text += message.content.text;
    if (message.header.msg_type === 'error') text += `${message.content.ename}: ${message.content.evalue}`;
  };
  await Promise.race([future.done, new Promise((_, fail) => setTimeout(() => fail(new Error('no answer')), timeout))]);
  return text;
}"""
