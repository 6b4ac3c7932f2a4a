"""Labs inside other outputs: `ipywidgets.Output` and `interact` show them as a cell does."""

from __future__ import annotations

import pytest

from support.rig import write_notebook

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

OUTPUT = """
import ipywidgets
from IPython.display import display
import vae_plugin.widgets.lab
from vae_plugin.widgets import LatentLab
vae_plugin.widgets.lab.FIRST_PICTURE = 300
out = ipywidgets.Output()
with out:
    print("before the lab")
    display(LatentLab(max_images=4))
    print("after the lab")
out
"""
INTERACT = """
@ipywidgets.interact(images=[4, 5])
def show(images):
    display(LatentLab(max_images=images))
"""


@pytest.fixture(scope="module")
def page(server, browser, rig_folders):
    write_notebook(rig_folders[0] / "output.ipynb", [OUTPUT, INTERACT])
    browser.open(server, "output.ipynb")
    browser.run_all()
    browser.page.wait_for_function(
        "() => document.querySelectorAll('.latent-lab').length === 2"
        " && document.querySelectorAll('figure[data-latent-lab-still]').length === 2"
    )
    return browser.page


@pytest.mark.parametrize("number", [0, 1])
def test_a_lab_in_another_output_is_seen_and_its_saved_picture_is_not(page, number):
    assert page.locator(".latent-lab").nth(number).is_visible()
    still = page.locator("figure[data-latent-lab-still]").nth(number)
    assert not still.is_visible()
    box = still.locator("xpath=ancestor::*[contains(@class, 'jp-OutputArea-child')][1]")
    assert not box.is_visible()  # nor an empty line in its place


def test_what_stands_beside_a_lab_is_seen(page):
    for words in ("before the lab", "after the lab"):
        assert page.locator(".jp-OutputArea-output pre").get_by_text(words).is_visible()
    assert page.locator(".widget-dropdown select").is_visible()
