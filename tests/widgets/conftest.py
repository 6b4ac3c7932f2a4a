"""One notebook server for all tests of the front end (in each process of pytest-xdist), and labs, in it or not."""

from __future__ import annotations

import pytest

from support.lab_panel import BANDS, CIRCLES, CODES, Panel
from support.lab_session import fresh
from support.rig import need, notebook_server, write_notebook
from support.tiny_lab import open_lab


@pytest.fixture(scope="session")
def rig_folders(tmp_path_factory):
    """Folders for the notebooks and for the server's own files."""
    return tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def server(rig_folders, browser):
    need("jupyterlab")
    with notebook_server(*rig_folders) as address:
        yield address


@pytest.fixture(scope="session")
def labs(server, browser, rig_folders):
    """A page with the labs `lab` (circles), `second` (codes) and `third` (five bands)."""
    write_notebook(rig_folders[0] / "lab.ipynb", [CIRCLES, CODES, BANDS])
    page = browser.another()
    page.open(server, "lab.ipynb")
    page.run_all()
    page.page.wait_for_selector(".latent-lab >> nth=2")
    page.page.wait_for_function("() => document.querySelectorAll('.latent-lab input[data-axis]').length > 8")
    return page


def fresh_panel(labs, number, name):
    panel = Panel(labs, number, name)
    panel.fresh()
    return panel


@pytest.fixture
def circles(labs):
    return fresh_panel(labs, 0, "lab")


@pytest.fixture
def codes(labs):
    return fresh_panel(labs, 1, "second")


@pytest.fixture
def bands(labs):
    return fresh_panel(labs, 2, "third")


@pytest.fixture(scope="module")
def flat_lab():
    with open_lab(max_images=24) as lab:
        yield lab


@pytest.fixture(scope="module")
def spatial_lab():
    with open_lab("AutoencoderKL", resolution=32) as lab:
        yield lab


@pytest.fixture(scope="module")
def code_lab():
    with open_lab("rvq") as lab:
        yield lab


@pytest.fixture(scope="module")
def fsq_lab():
    with open_lab("fsq") as lab:
        yield lab


@pytest.fixture
def flat(flat_lab):
    return fresh(flat_lab)


@pytest.fixture
def spatial(spatial_lab):
    return fresh(spatial_lab)


@pytest.fixture
def code(code_lab):
    return fresh(code_lab)


@pytest.fixture(scope="module")
def one_lab():
    with open_lab(max_images=6) as lab:
        yield lab


@pytest.fixture
def lab(one_lab):
    return fresh(one_lab)


@pytest.fixture(scope="module")
def codes_lab():
    with open_lab("rvq", max_images=4) as lab:
        yield lab
