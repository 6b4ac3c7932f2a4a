import os

import pytest
import torch
from accelerate.state import AcceleratorState

MOST_WORKERS = 8  # each holds torch, and some tests start processes of their own


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run the whole suite in parallel; single files are not worth the start of the workers."""
    whole = config.args_source is not config.ArgsSource.ARGS
    is_worker = "PYTEST_XDIST_WORKER" in os.environ  # which must not start workers of its own
    if whole and not is_worker and config.option.numprocesses is None:
        config.option.numprocesses = "logical"  # the processors this process may use; none with --pdb
        config.option.maxprocesses = config.option.maxprocesses or MOST_WORKERS


@pytest.fixture(autouse=True)
def fresh_process():
    """What a new process would have: accelerate keeps the precision of the first run of a process."""
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def playwright():
    """What starts browsers (one in each process of pytest-xdist)."""
    from support.rig import browser_path, need

    need("playwright")
    if browser_path() is None:
        pytest.skip("no browser is installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(playwright, tmp_path_factory):
    """One browser for all tests (in each process of pytest-xdist)."""
    from support.rig import Browser

    browser = Browser(playwright, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
