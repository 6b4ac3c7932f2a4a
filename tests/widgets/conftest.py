"""One notebook server and one browser for all tests of the front end (in each process of pytest-xdist)."""

from __future__ import annotations

import importlib.util

import pytest

from support.rig import Browser, browser_path, notebook_server


@pytest.fixture(scope="session")
def rig_folders(tmp_path_factory):
    """Folders for the notebooks and for the server's own files."""
    return tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home")


def need(module):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install 'vae-plugin[test]'")


@pytest.fixture(scope="session")
def server(rig_folders, browser):
    need("jupyterlab")
    with notebook_server(*rig_folders) as address:
        yield address


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    need("playwright")
    if browser_path() is None:
        pytest.skip("no browser is installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = Browser(playwright, tmp_path_factory.mktemp("profile"))
        yield browser
        browser.close()
