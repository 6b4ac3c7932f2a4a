"""One notebook server for all tests of the front end (in each process of pytest-xdist)."""

from __future__ import annotations

import pytest

from support.rig import need, notebook_server


@pytest.fixture(scope="session")
def rig_folders(tmp_path_factory):
    """Folders for the notebooks and for the server's own files."""
    return tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def server(rig_folders, browser):
    need("jupyterlab")
    with notebook_server(*rig_folders) as address:
        yield address
