"""Sliders and keys of the lab in a browser: latent and pixels move together, and the last change arrives."""

from __future__ import annotations

import json

import pytest

from support.lab_panel import COLOURS, DIGEST, set_slider

COUNT = """
count, receive = 0, LAB._panel.receive
def counted(*message):
    global count
    count += 1
    receive(*message)
LAB._panel.receive = counted
"""
pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def test_dragging_a_slider_with_the_mouse_moves_latent_and_pixels_together(circles):
    circles.tab("sliders")
    circles.settle()
    slider = circles.find("input[data-axis]").first
    axis = slider.get_attribute("data-axis")
    before = circles.shown()
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    circles.page.mouse.move(box["x"] + box["width"] / 2, middle)
    circles.page.mouse.down()
    for i in range(20):
        circles.page.mouse.move(box["x"] + box["width"] * (0.5 + 0.02 * i), middle)
    circles.page.mouse.up()
    circles.settle()
    value = float(circles.python(f"print(LAB.space.coordinate(LAB.latent, {axis!r}))"))
    assert value == pytest.approx(float(slider.input_value()), abs=1e-3)
    low, high = (float(slider.get_attribute(name)) for name in ("min", "max"))
    assert value == pytest.approx(low + 0.88 * (high - low), abs=0.06 * (high - low))
    assert circles.shown() != before
    assert circles.shown() == circles.python("print(digest(LAB))")


def test_five_hundred_fast_events_end_on_the_last(circles):
    circles.tab("sliders")
    circles.settle()
    slider = circles.find("input[data-axis]").nth(1)
    circles.python(COUNT)
    last = slider.evaluate(
        """async (input) => {
          let value;
          for (let i = 0; i < 500; i += 1) {
            value = Number(input.min) + ((i * 7919) % 500) / 500 * (input.max - input.min);
            input.value = value;
            input.dispatchEvent(new Event("input", { bubbles: true }));
            if (i % 25 === 0) await new Promise((done) => setTimeout(done, 1));
          }
          const last = input.value;
          input.dispatchEvent(new Event("change", { bubbles: true }));
          return last;
        }"""
    )
    circles.settle()
    axis = slider.get_attribute("data-axis")
    assert float(circles.python(f"print(LAB.space.coordinate(LAB.latent, {axis!r}))")) == pytest.approx(
        float(last), abs=1e-4
    )
    assert float(slider.input_value()) == pytest.approx(float(last), abs=1e-4)
    assert circles.shown() == circles.python("print(digest(LAB))")
    assert (
        1 <= int(circles.python("print(count); LAB._panel.receive = receive")) < 100
    )  # latest wins: most were never sent


def test_two_sliders_moved_at_once_both_count(circles):
    circles.tab("sliders")
    circles.settle()
    sliders = circles.find("input[data-axis]")
    circles.page.evaluate(
        """([a, b]) => { for (let i = 0; i <= 20; i += 1) for (const input of [a, b]) {
          input.value = i / 20;
          input.dispatchEvent(new Event("input", { bubbles: true }));
        } }""",
        [sliders.nth(0).element_handle(), sliders.nth(2).element_handle()],
    )
    circles.settle()
    keys = [sliders.nth(i).get_attribute("data-axis") for i in (0, 2)]
    values = json.loads(circles.python(f"print([LAB.space.coordinate(LAB.latent, k) for k in {keys!r}])"))
    assert values == pytest.approx([float(sliders.nth(i).input_value()) for i in (0, 2)], abs=1e-4)


def test_the_keyboard_alone_is_enough(circles):
    circles.tab("sliders")
    page = circles.page
    slider = circles.find("input[data-axis]").first
    slider.focus()
    circles.settle()
    before = float(slider.input_value())
    assert slider.evaluate("(input) => input === document.activeElement")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    circles.settle()
    step = float(slider.get_attribute("step"))
    assert float(slider.input_value()) == pytest.approx(before + 5 * step, abs=step / 2)
    axis = slider.get_attribute("data-axis")
    assert float(circles.python(f"print(LAB.space.coordinate(LAB.latent, {axis!r}))")) == pytest.approx(
        float(slider.input_value()), abs=1e-4
    )
    labs = page.locator(".latent-lab").count()
    for key in "dd":  # JupyterLab's keys for "delete the cell"
        page.keyboard.press(key)
    page.keyboard.press("Control+z")
    circles.settle()
    assert page.locator(".latent-lab").count() == labs

    circles.root.get_by_role("tab", name="Sliders").focus()
    page.keyboard.press("ArrowLeft")
    assert circles.root.get_by_role("tab", name="Map").get_attribute("aria-selected") == "true"
    for _ in range(5):  # the page, the three selects, then the map
        page.keyboard.press("Tab")
    assert "ll-map" in page.evaluate("document.activeElement.className")
    x = float(circles.python("print(LAB.space.coordinate(LAB.latent, 'direction 1'))"))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    circles.settle()
    assert float(circles.python("print(LAB.space.coordinate(LAB.latent, 'direction 1'))")) > x
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_a_slider_stands_between_what_its_ends_decode_to_and_returns_to_the_encoders_value(circles):
    circles.tab("sliders")
    circles.settle()
    rows = circles.find(".ll-slider")
    # An end may decode to nothing but black.
    assert sum(rows.nth(i).locator("canvas").nth(k).evaluate(COLOURS) > 1 for i in range(4) for k in (0, 1)) >= 5
    slider = rows.first.locator("input")
    axis, low = slider.get_attribute("data-axis"), float(slider.get_attribute("min"))
    expected = circles.python(f"print(digest(LAB, LAB.space.move(LAB.latent, {axis!r}, {low!r})))")
    assert rows.first.locator("canvas").first.evaluate(DIGEST) == expected
    home = float(circles.python(f"print(LAB.space.coordinate(LAB.latent, {axis!r}))"))
    reset = rows.first.get_by_role("button")
    assert reset.is_disabled()
    set_slider(slider, low)
    circles.settle()
    assert float(circles.python(f"print(LAB.space.coordinate(LAB.latent, {axis!r}))")) == pytest.approx(low, abs=1e-3)
    assert rows.first.locator(".ll-tick").is_visible()
    reset.click()
    circles.settle()
    assert float(circles.python(f"print(LAB.space.coordinate(LAB.latent, {axis!r}))")) == pytest.approx(home, abs=1e-3)
