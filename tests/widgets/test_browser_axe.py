"""The lab in a browser as axe-core sees it: names, roles, contrast, on every page, in both themes."""

from __future__ import annotations

from importlib.resources import files

import pytest

from support.rig import need

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

RUN = """async (root) => {
  const found = await axe.run(root, { resultTypes: ["violations"] });
  const words = ({ html, failureSummary }) => `${html.slice(0, 160)} ${failureSummary}`;
  return found.violations.map(({ id, nodes }) => [id, nodes.map(words)]);
}"""
PAGES = ("map", "sliders", "arithmetic", "strips", "samples", "images")


@pytest.fixture
def audit(labs):
    """A function that lists what axe finds in a lab; the package that has axe-core is of the `test` extra."""
    need("axe_playwright_python")
    labs.page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    return lambda panel: panel.root.evaluate(RUN)


def theme(panel, name):
    panel.page.evaluate("(name) => window.jupyterapp.commands.execute('apputils:change-theme', { theme: name })", name)
    panel.page.wait_for_function("(dark) => document.body.dataset.jpThemeLight === String(!dark)", arg="Dark" in name)


@pytest.mark.parametrize("name", ["JupyterLab Light", "JupyterLab Dark"])
def test_axe_finds_nothing_on_any_page(circles, codes, audit, name):
    circles.python("LAB.keep('kept')")
    try:
        theme(circles, name)
        for panel, pages in ((circles, PAGES), (codes, (*PAGES, "codes", "brush"))):
            for key in pages:
                panel.tab(key)
                panel.settle()
                assert audit(panel) == [], key
        circles.tab("arithmetic")
        for mode in ("A − B + C", "Weighted sum", "Attribute"):
            circles.root.get_by_role("radio", name=mode).check(force=True)
            circles.settle()
            assert audit(circles) == [], mode
        circles.root.get_by_role("button", name="More").click()
        assert audit(circles) == [], "menu"
        circles.page.keyboard.press("Escape")
    finally:
        theme(circles, "JupyterLab Light")


def test_axe_finds_a_button_without_a_name(circles, audit):
    """The audit could be of nothing."""
    circles.root.evaluate("(root) => root.append(Object.assign(document.createElement('button'), { className: 'x' }))")
    try:
        assert [name for name, _ in audit(circles)] == ["button-name"]
    finally:
        circles.root.evaluate("(root) => root.querySelector('.x').remove()")
