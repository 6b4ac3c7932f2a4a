"""A notebook server and a browser of our own: JupyterLab or Notebook on the loopback, headless Chromium."""

from __future__ import annotations

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
from pathlib import Path
from typing import Any

import nbformat

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


def browser_path() -> str | None:
    """Where a browser is installed, if one is."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def notebook_server(
    folder: Path, home: Path, application: str = "jupyterlab", theme: str | None = None
) -> Iterator[str]:
    """A server of the notebooks in `folder`, its address; everything that it writes itself is under `home`."""
    port = free_port()
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
        *(sys.executable, "-m", application, "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"),
        *("--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.password="),
        *("--ServerApp.disable_check_xsrf=True", f"--ServerApp.root_dir={folder}"),
        f"--{exposed}.expose_app_in_browser=True",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    with (home / f"{application}.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/status", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def _wait_for(address: str, server: subprocess.Popen, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"the notebook server ended with status {server.returncode}.")
        try:
            urllib.request.urlopen(address, timeout=2).close()
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"the notebook server does not answer at {address}.")


def write_notebook(path: Path, cells: Sequence[str]) -> Path:
    """A notebook of code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


class Browser:
    """Headless Chromium with one page; requests to anything but this machine are refused and noted in `outside`."""

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
        self.page = self.context.pages[0]
        self.page.on("dialog", lambda dialog: dialog.accept())
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _route(self, route: Any) -> None:
        address = route.request.url
        if address.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "about:")):
            route.continue_()
        else:
            self.outside.append(address)
            route.abort()

    def open(self, server: str, name: str, application: str = "jupyterlab") -> None:
        """Open a notebook and wait until its kernel is there."""
        kind = "doc/tree" if application == "jupyterlab" else "notebooks"
        self.page.goto(f"{server}/{kind}/{name}?reset", wait_until="domcontentloaded")
        self.page.wait_for_function(READY, timeout=90_000)

    def run_all(self, timeout: float = 120) -> None:
        """Run all cells, and wait for the last."""
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        self.page.wait_for_function(DONE, timeout=timeout * 1000)

    def python(self, code: str, timeout: float = 60) -> str:
        """What a piece of Python prints in the notebook's kernel, outside of its cells."""
        return self.page.evaluate(EXECUTE, [code, timeout * 1000])

    def close(self) -> None:
        """End the browser."""
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
