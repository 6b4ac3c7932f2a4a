"""What the lab looks like in a browser: nothing sticks out, nothing jumps, no page is empty, everything has a name."""

from __future__ import annotations

import pytest

from support.lab_panel import COLOURS

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


PAGES = ("map", "sliders", "arithmetic", "strips", "samples", "images")


@pytest.mark.parametrize("width", [340, 420, 700, 1400])
def test_nothing_sticks_out_of_a_narrow_cell(circles, width):
    circles.page.set_viewport_size({"width": width, "height": 1500})
    try:
        circles.page.wait_for_function(
            "(root) => root.getBoundingClientRect().right <= innerWidth", arg=circles.element
        )
        circles.settle()
        for key in PAGES:
            circles.tab(key)
            wide = circles.root.evaluate(
                """(root) => [...root.querySelectorAll("*")].filter((element) => {
                  const seen = element.offsetParent && !element.closest(".ll-hidden, select");
                  return seen && element.getBoundingClientRect().right > root.getBoundingClientRect().right + 1;
                }).map((element) => element.outerHTML.slice(0, 80))"""
            )
            assert wide == []
    finally:
        circles.page.set_viewport_size({"width": 1400, "height": 1500})


@pytest.fixture
def says_much(circles):
    """The longest status beside a busy kernel, put where the lab puts them."""
    said = circles.find(".ll-status")
    before = said.all_text_contents()
    put = "(list, words) => list.forEach((e, i) => { e.textContent = words[i]; })"
    words = ["the kernel is working on it…", "sending a-photograph-with-a-name-of-one-word.jpeg: 12.3 of 45.6 MB"]
    said.evaluate_all(put, words)
    yield said
    said.evaluate_all(put, before)


@pytest.mark.parametrize("width", [300, 420, 700, 1400])
def test_a_status_is_whole_and_moves_nothing(circles, says_much, width):
    circles.page.set_viewport_size({"width": width, "height": 1500})
    try:
        height = "(root) => root.querySelector('.ll-header').offsetHeight"
        spoken = circles.root.evaluate(height)
        cut = says_much.evaluate_all(
            """(list) => list.filter((e) => {
              const { left, right } = e.getBoundingClientRect();
              const { left: start, right: end } = e.closest(".ll-line").getBoundingClientRect();
              return getComputedStyle(e).overflow !== "visible" || left < start || right > end || !e.offsetHeight;
            }).map((e) => e.textContent)"""
        )
        assert cut == []
        says_much.evaluate_all("(list) => list.forEach((e) => { e.textContent = ''; })")
        assert circles.root.evaluate(height) == spoken
    finally:
        circles.page.set_viewport_size({"width": 1400, "height": 1500})


@pytest.mark.parametrize("width", [420, 700, 1400])
def test_no_words_are_cut(circles, width):
    """On every page, with a latent that has the longest name: that of an image with its factors, edited."""
    circles.page.set_viewport_size({"width": width, "height": 1500})
    try:
        circles.tab("map")
        circles.find(".ll-map").click()
        for key in PAGES:
            circles.tab(key)
            circles.settle()
            cut = circles.root.evaluate(
                """(root) => [...root.querySelectorAll("p, button, label, span, figcaption, h3, small")].filter((e) => {
                  if (!e.offsetParent || !e.textContent.trim() || e.closest(".ll-hidden")) return false;
                  const clipped = getComputedStyle(e).overflow !== "visible";
                  return clipped && (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1);
                }).map((e) => `${e.className}: ${e.textContent}`)"""
            )
            assert cut == [], key
    finally:
        circles.page.set_viewport_size({"width": 1400, "height": 1500})


def test_everything_that_is_operated_has_a_name_and_keeps_its_keys(circles):
    nameless = circles.root.evaluate(
        """(root) => [...root.querySelectorAll("button, input, select, textarea, canvas[tabindex]")].filter((e) => {
          const words = e.tagName === "BUTTON" && e.textContent.trim();
          const named = e.getAttribute("aria-label") || e.labels?.length || words;
          return !named || !e.hasAttribute("data-lm-suppress-shortcuts");
        }).map((e) => e.outerHTML.slice(0, 100))"""
    )
    assert nameless == []


def test_no_page_is_empty_at_first_sight(circles):
    """Each has several pictures that are more than one colour, without anything being pressed on it."""
    for key in PAGES:
        circles.tab(key)
        circles.settle()
        canvases = circles.find(f"[data-page={key}] canvas:visible")
        coloured = sum(canvases.nth(i).evaluate(COLOURS) > 1 for i in range(min(12, canvases.count())))
        assert coloured >= (1 if key == "map" else 5), key


def test_nothing_jumps_from_page_to_page(circles):
    heights = set()
    for key in PAGES:
        circles.tab(key)
        circles.settle()
        heights.add(round(circles.root.bounding_box()["height"]))
    circles.python("LAB._outlet.keep(ValueError('an error'))")
    circles.settle()
    heights.add(round(circles.root.bounding_box()["height"]))
    circles.root.get_by_role("button", name="Dismiss").first.click()
    assert len(heights) == 1


def test_no_label_is_cut_and_no_picture_has_a_strip_beside_it(circles, codes):
    for panel, pages in ((circles, PAGES), (codes, ("codes", "brush"))):
        for key in pages:
            panel.tab(key)
            panel.settle()
            cut = panel.root.evaluate(
                """(root) => [...root.querySelectorAll("label, .ll-button, .ll-tab")].filter(
                  (element) => element.offsetParent && element.scrollWidth > element.clientWidth + 1
                ).map((element) => element.outerHTML.slice(0, 120))"""
            )
            assert cut == [], key
            wide = panel.root.evaluate(
                """(root) => [...root.querySelectorAll(".ll-thumb > canvas, .ll-face > canvas")].filter((canvas) => {
                  const [mine, outer] = [canvas.getBoundingClientRect(), canvas.parentElement.getBoundingClientRect()];
                  return canvas.offsetParent && (Math.abs(mine.width - outer.width) > 1
                    || Math.abs(mine.width / mine.height - canvas.width / canvas.height) > 0.05);
                }).length"""
            )
            assert wide == 0, key


def test_there_is_one_primary_button_and_a_full_screen(circles):
    assert circles.find(".ll-primary:visible").all_inner_texts() == ["Keep"]
    circles.root.get_by_role("button", name="Full screen").click()
    circles.page.wait_for_function("(root) => document.fullscreenElement === root", arg=circles.element)
    circles.settle()
    box = circles.root.bounding_box()
    assert box["width"] >= circles.page.viewport_size["width"] - 1
    circles.root.get_by_role("button", name="Full screen").click()
    circles.page.wait_for_function("() => document.fullscreenElement === null")


def test_generated_images_are_said_to_be_generated(circles, bands):
    assert "LatentLab(model, images)" in circles.find(".ll-note").inner_text()
    assert bands.find(".ll-note").count() == 0  # its images were given
