"""The lab in marimo: cells that use it run again when the user has changed something in its panel."""

from __future__ import annotations

import os
import sys

import pytest

from support.rig import need, served

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

NOTEBOOK = """
import marimo
app = marimo.App()

@app.cell
def _():
    import marimo as mo
    import vae_plugin.widgets.lab
    from vae_plugin.widgets import LatentLab
    vae_plugin.widgets.lab.FIRST_PICTURE = 300
    lab = mo.ui.anywidget(LatentLab(max_images=8))
    lab
    return lab, mo

@app.cell
def _(lab, mo):
    mo.md(f"changes: {lab.changes}, latent: {[round(float(x), 3) for x in lab.latent.flatten()]}")
    return
"""


@pytest.fixture
def page(tmp_path, browser):
    need("marimo")
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    command = [sys.executable, "-m", "marimo", "run", "notebook.py", "--headless", "--no-token", "--host=127.0.0.1"]
    with served(command, {**os.environ, "HOME": str(tmp_path)}, tmp_path / "log", "/health", tmp_path) as address:
        tab = browser.another()
        tab.page.goto(address)
        yield tab.page
        tab.page.close()


def told(page, changes):
    """The latent that the second cell tells, once it tells this number of changes."""
    line = page.get_by_text(f"changes: {changes}, latent:")
    line.wait_for()
    return line.inner_text().partition("latent: ")[2]


def open_another(page):
    """Open another image of the lab."""
    page.get_by_role("tab", name="Images").click()
    page.locator(".latent-lab [data-tab-page] .ll-thumb, .latent-lab .ll-thumb").nth(5).click()


def test_cells_run_again_after_each_change_in_the_panel(page):
    first = told(page, 0)
    open_another(page)
    second = told(page, 1)
    assert second != first
    page.get_by_role("button", name="Undo").click()
    assert told(page, 2) == first


def test_what_changes_nothing_is_not_counted(page):
    """Copied code and a saved picture, before an undo: only that is counted."""
    told(page, 0)
    open_another(page)
    told(page, 1)
    for action, status in {"Save picture": "Saved", "Copy Python code": "code"}.items():
        page.get_by_role("button", name="More").click()
        page.get_by_role("menuitem", name=action).click()
        page.locator(".ll-status", has_text=status).wait_for()
    page.wait_for_timeout(1000)
    page.get_by_role("button", name="Undo").click()
    told(page, 2)
