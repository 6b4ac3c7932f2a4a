"""The map of the lab in a browser: drag, zoom, lasso and the decoded plane, against the kernel."""

from __future__ import annotations

import json
import re

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

PIXEL = """(canvas, [fx, fy]) => {
  const [x, y] = [Math.floor(fx * canvas.width), Math.floor(fy * canvas.height)];
  return [...canvas.getContext("2d").getImageData(x, y, 1, 1).data];
}"""


@pytest.fixture
def chart(circles):
    """A lab with its map as it is at first."""
    circles.tab("map")
    for i, name in enumerate(("Across", "Up")):
        circles.root.get_by_label(name, exact=True).select_option(f"direction {i + 1}")
    if circles.find("[data-tool=reset]").is_enabled():
        circles.find("[data-tool=reset]").click()
    circles.find("[data-tool=explore]").click()
    circles.find(".ll-map").evaluate("(canvas) => canvas.scrollIntoView({ block: 'center' })")
    circles.settle()
    return circles


def at(panel, fx, fy):
    box = panel.find(".ll-map").bounding_box()
    return box["x"] + fx * box["width"], box["y"] + fy * box["height"]


def said(panel):
    """The coordinates of the current latent as the map's name has them."""
    words = panel.find(".ll-map").get_attribute("aria-label")
    return [float(x) for x in re.search(r"At direction 1 (\S+), direction 2 (\S+)\.", words).groups()]


def test_it_opens_on_the_map_with_a_picture_at_the_place_of_each_image(labs, chart):
    assert chart.root.get_by_role("tab").first.inner_text() == "Map"
    # Which pixels are where is calculated from the ranges that the map says it has.
    circles = chart.python(
        "rows = LAB.space.rows; keys = list(LAB.space.axes)\n"
        "x, y = (LAB.space.points[:, keys.index(f'direction {i}')] for i in (1, 2))\n"
        "pad = lambda v: ((v - v.min() + 0.12 * (v.max() - v.min())) / (1.24 * (v.max() - v.min()))).tolist()\n"
        "print([[row, a, 1 - b] for row, a, b in zip(rows, pad(x), pad(y))])"
    )
    size = chart.find(".ll-map").evaluate("(canvas) => [canvas.clientWidth, canvas.clientHeight]")
    alone = 0
    places = json.loads(circles)
    for row, fx, fy in places:
        near = [1 for r, a, b in places if r != row and max(abs(a - fx) * size[0], abs(b - fy) * size[1]) < 90]
        if near:
            continue
        alone += 1
        middle = json.loads(chart.python(f"print(LAB.images[{row}][:, 16, 16].tolist())"))
        seen = chart.find(".ll-map").evaluate(PIXEL, [fx, fy])
        assert seen[:3] == pytest.approx([round(127.5 * (v + 1)) for v in middle], abs=90), row
        assert seen[3] == 255
    assert alone


def test_the_point_on_the_map_is_dragged(chart):
    before = chart.shown()
    chart.page.mouse.move(*at(chart, 0.1, 0.2))
    chart.page.mouse.down()
    chart.page.mouse.move(*at(chart, 0.5, 0.33), steps=8)
    chart.page.mouse.up()
    chart.settle()
    real = json.loads(chart.python("print([LAB.space.coordinate(LAB.latent, f'direction {i}') for i in (1, 2)])"))
    assert real == pytest.approx(said(chart), rel=0.01, abs=0.01)
    assert before != chart.shown() == chart.python("print(digest(LAB))")


def test_the_wheel_magnifies_around_the_pointer_and_the_keys_bring_everything_back(chart):
    canvas, whole = chart.find(".ll-map"), chart.find(".ll-map").screenshot()
    chart.page.mouse.move(*at(chart, 0.25, 0.6))
    chart.page.mouse.down()
    chart.page.mouse.up()
    chart.settle()
    there = said(chart)
    for _ in range(4):
        chart.page.mouse.wheel(0, -150)
    chart.settle()
    assert canvas.screenshot() != whole
    # The point under the pointer has stayed where it is: a click there is the same latent.
    chart.page.mouse.down()
    chart.page.mouse.up()
    chart.settle()
    assert said(chart) == pytest.approx(there, abs=0.03)
    # A click beside it is nearer to it than it was.
    chart.page.mouse.move(*at(chart, 0.35, 0.6))
    chart.page.mouse.down()
    chart.page.mouse.up()
    chart.settle()
    near = said(chart)[0] - there[0]
    canvas.focus()
    chart.page.keyboard.press("0")
    assert chart.find("[data-tool=reset]").is_disabled()
    chart.page.mouse.down()
    chart.page.mouse.up()
    chart.settle()
    assert said(chart)[0] - there[0] == pytest.approx(
        near * 2.718281828 ** (4 * 150 / 300), rel=0.15
    )  # of rounded words


def test_a_drag_with_shift_moves_the_map_and_leaves_the_latent(chart):
    canvas, before = chart.find(".ll-map"), chart.shown()
    whole = canvas.screenshot()
    chart.page.keyboard.down("Shift")
    chart.page.mouse.move(*at(chart, 0.5, 0.5))
    chart.page.mouse.down()
    chart.page.mouse.move(*at(chart, 0.1, 0.5), steps=4)
    chart.page.mouse.up()
    chart.page.keyboard.up("Shift")
    chart.settle()
    assert canvas.screenshot() != whole
    assert chart.shown() == before
    chart.find("[data-tool=reset]").click()
    chart.page.mouse.move(*at(chart, 0.5, -0.3))
    chart.settle()
    assert canvas.screenshot() == whole


def test_the_ring_of_a_latent_outside_the_map_is_at_its_border(chart):
    accent = chart.root.evaluate("(root) => getComputedStyle(root).getPropertyValue('--ll-accent')")
    chart.python("LAB.latent = LAB.space.move(LAB.space.mean, 'direction 1', 40)")
    chart.settle()
    count = """(canvas, colour) => {
      const probe = document.createElement("canvas").getContext("2d");
      probe.fillStyle = colour;
      probe.fillRect(0, 0, 1, 1);
      const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
      const width = Math.round(canvas.width * 32 / canvas.clientWidth);
      const { data } = canvas.getContext("2d").getImageData(canvas.width - width, 0, width, canvas.height);
      let found = 0;
      for (let i = 0; i < data.length; i += 4) found += data[i] === r && data[i + 1] === g && data[i + 2] === b;
      return found;
    }"""
    assert chart.find(".ll-ring").evaluate(count, accent) > 20


def test_the_decoded_plane_covers_the_map_and_follows_the_latent(chart):
    canvas = chart.find(".ll-map")
    chart.find("[data-tool=decode]").click()
    try:
        chart.settle()
        for corner in ([0.002, 0.002], [0.998, 0.998], [0.5, 0.998], [0.998, 0.5]):
            assert canvas.evaluate(PIXEL, corner)[3] == 255
        seen = canvas.evaluate(PIXEL, [0.02, 0.5])
        first = chart.python("print(LAB._panel._sheets._sheets['manifold'].latents.sum().item())")
        chart.python("LAB.latent = LAB.latent + 1.5")
        chart.settle()
        assert chart.python("print(LAB._panel._sheets._sheets['manifold'].latents.sum().item())") != first
        plane = "LAB._panel._sheets._sheets['manifold'].latents[0]"
        keys = "[axis.key for axis in LAB.space.axes.values() if axis.key not in ('direction 1', 'direction 2')]"
        same = f"all(abs(LAB.space.coordinate({plane}, k) - LAB.space.coordinate(LAB.latent, k)) < 1e-3 for k in {keys}"
        assert chart.python(f"print({same} if k.startswith('direction')))") == "True"
        assert canvas.evaluate(PIXEL, [0.02, 0.5])[3] == 255
        assert seen[3] == 255
    finally:
        chart.find("[data-tool=decode]").click()


def test_a_lasso_selects_images_for_python_and_python_selects_them_on_the_map(chart):
    chart.find("[data-tool=lasso]").click()
    chart.page.mouse.move(*at(chart, 0.01, 0.01))
    chart.page.mouse.down()
    for corner in ((0.5, 0.01), (0.5, 0.99), (0.01, 0.99)):
        chart.page.mouse.move(*at(chart, *corner), steps=5)
    chart.page.mouse.up()
    chart.settle()
    left = (
        "x = LAB.space.points[:, list(LAB.space.axes).index('direction 1')]; middle = (x.min() + x.max()) / 2; "
        "print(sorted(row for row, value in zip(LAB.space.rows, x) if value < middle) == list(LAB.selection))"
    )
    assert chart.python(left) == "True"
    assert int(chart.python("print(len(LAB.selection))")) > 3
    chart.python(
        "heard = []; LAB.observe(lambda change: heard.append(change.new), 'selection')\nLAB.selection = [5, 2]"
    )
    chart.settle()
    assert chart.python("print(heard, LAB.selection)") == "[(2, 5)] (2, 5)"
    assert chart.find("[data-page=map] .ll-hint").inner_text().startswith("2 images selected")
    chart.find(".ll-map").focus()
    chart.page.keyboard.press("Escape")
    chart.settle()
    assert chart.python("print(LAB.selection)") == "()"


def test_the_axes_that_the_model_has_names_for_come_first(circles, codes):
    first = [
        [panel.find("[data-page=map] select").first.locator("option").nth(i).inner_text() for i in (0, 1)]
        for panel in (circles, codes)
    ]
    assert first == [["x", "y"], ["direction 1", "direction 2"]]
