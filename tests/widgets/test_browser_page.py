"""A lab as one HTML file, opened from the disk without a network: its pixels are those of the model in Python."""

from __future__ import annotations

import re

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from support.rig import LIMIT, Browser, need
from support.tiny_lab import levels, open_lab
from vae_plugin.errors import UserError
from vae_plugin.widgets.page.runtime import find_runtime

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

PIXELS = """(canvas) => [canvas.height, canvas.width,
  ...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]"""
MOST = 1  # of 255 levels, by which browsers and torch may differ


class Page:
    """A page that was written by a lab, and the lab to compare it with."""

    def __init__(self, browser, lab, path):
        self.lab, self.path = lab, path
        self.page = browser.context.new_page()
        self.asked, self.errors = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(".latent-lab input[data-axis]", state="attached")

    def tab(self, key):
        self.page.click(f'[data-tab="{key}"]')

    def says(self, words):
        """Wait until the line below the picture says something."""
        self.page.wait_for_selector(f'.ll-measured:has-text("{words}")')

    def pixels(self, canvas):
        height, width, *rest = canvas.evaluate(PIXELS)
        return np.array(rest).reshape(height, width, 4)[..., :3]

    @property
    def decoded(self):
        return self.pixels(self.page.locator(".ll-stage canvas").nth(1))

    @property
    def original(self):
        return self.pixels(self.page.locator(".ll-stage canvas").nth(0))

    def press(self, name):
        self.page.get_by_role("button", name=name, exact=True).click()

    def choose(self, words):
        """Choose an entry of the menu."""
        self.press("More")
        self.page.click(f'[role="menuitem"]:has-text("{words}")')

    def saved(self, entry="Save latent"):
        """The tensors in the file that an entry of the menu saves."""
        with self.page.expect_download() as coming:
            self.choose(entry)
        return safetensors.torch.load_file(coming.value.path())

    def move(self, axis, key="End"):
        """Move a slider by a key; returns its value then."""
        self.tab("sliders")
        slider = self.page.locator(f'input[data-axis="{axis}"]')
        slider.press(key)
        self.says("(edited)")
        return float(slider.input_value())

    def check_decoded(self, latent):
        expected = np.asarray(self.lab.decode(latent).convert("RGB")).astype(int)
        assert np.abs(self.decoded - expected).max() <= MOST
        assert np.ptp(expected) > 20  # a picture of something

    def check_quiet(self):
        assert not self.errors
        assert {address.partition(":")[0] for address in self.asked} <= {"file", "blob", "data"}


@pytest.fixture(scope="module")
def offline(playwright, tmp_path_factory):
    """A browser of its own without a network: pages of the other tests would lose their server."""
    browser = Browser(playwright, tmp_path_factory.mktemp("profile"))
    browser.context.set_offline(True)
    yield browser
    browser.close()


@pytest.fixture
def make_page(offline, tmp_path):
    """A function that writes a lab as a page, and opens it where there is no network."""
    for module in ("onnx", "onnxruntime", "onnxscript"):
        need(module)
    try:
        find_runtime()
    except UserError as error:
        pytest.skip(str(error))
    pages = []

    def make(lab):
        pages.append(Page(offline, lab, lab.export_html(tmp_path / "lab.html")))
        return pages[-1]

    yield make
    for page in pages:
        page.page.close()


def test_circles(make_page, tmp_path):
    with open_lab(max_images=24) as lab:
        lab.keep("first")
        assert lab.wait(LIMIT)
        page = make_page(lab)
        axis = next(iter(lab.space.axes))
        value = page.move(axis)
        found = page.saved()["current"]
        assert found.numpy() == pytest.approx(lab.space.move(lab.latent, axis, value).numpy(), abs=1e-5)
        page.check_decoded(found)

        page.press("Sample the posterior")
        page.says("(sample)")
        page.check_decoded(lab.encode(lab.images[0], seed=0))

        page.tab("images")
        page.page.click('.ll-thumbs button[data-row="3"]')
        page.says(lab.images.name(3))
        assert (page.original == levels(lab.images[3])).all()
        page.check_decoded(lab.encode(lab.images[3]))

        page.tab("strips")
        page.page.wait_for_selector(".ll-strips canvas >> nth=34")  # 7 pictures along each of 5 dimensions
        for i, key in enumerate(list(lab.space.axes)[:5]):
            for j, value in enumerate(np.linspace(*lab.space.ends(key), 7)):
                expected = lab.decode(lab.space.move(lab.encode(lab.images[3]), key, value))
                shown = page.pixels(page.page.locator(".ll-strips canvas").nth(7 * i + j))
                assert np.abs(shown - np.asarray(expected).astype(int)).max() <= MOST

        page.press("Keep")
        page.page.wait_for_selector(".ll-shelf li:nth-child(2) img")
        assert page.saved("Save shelf").keys() == {"current", "first", lab.images.name(3)}

        latent = torch.linspace(-1, 1, lab.latent.numel()).view_as(lab.latent)
        safetensors.torch.save_file({"from Python": latent}, tmp_path / "one.safetensors")
        page.tab("images")
        page.page.set_input_files("input[type=file]", tmp_path / "one.safetensors")
        page.says("from Python")
        page.check_decoded(latent)

        page.choose("Copy Python code")
        page.page.wait_for_selector(".ll-code-box:not([hidden])")
        code = page.page.locator(".ll-code-text")
        scope = {"vae": lab.model}
        exec(code.input_value(), scope)
        page.press("Close")
        assert scope["z"].numpy() == pytest.approx(latent.numpy(), abs=1e-6)
        assert np.abs(page.decoded - levels(scope["image"][0])).max() <= MOST

        Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
        page.page.set_input_files("input[type=file]", tmp_path / "image.png")
        page.page.wait_for_selector('.ll-alert:has-text("cannot encode images")')
        page.check_quiet()
        text = page.path.read_text("utf-8")
        assert "Copyright (c) Microsoft Corporation" in text
        assert re.search(r"(src|href)=\"?http", text) is None


@pytest.mark.slow  # a model is traced for each
@pytest.mark.parametrize("name", ["conv", "ema"])
def test_latents_on_a_grid(make_page, name):
    with open_lab(name) as lab:
        page = make_page(lab)
        value = page.move("channel 1", "Home")
        found = page.saved()["current"]
        assert found.numpy() == pytest.approx(lab.space.move(lab.latent, "channel 1", value).numpy(), abs=1e-5)
        page.check_decoded(found)
        if name == "ema":
            page.tab("codes")
            page.page.wait_for_selector('.ll-hint:has-text("cannot change single codes")')
        page.check_quiet()


CUT = """(root) => {
  const seen = (element) => element.offsetParent && !element.closest(".ll-hidden");
  const lines = [...root.querySelectorAll("p, .ll-measured span")].filter(
    (e) => seen(e) && getComputedStyle(e).overflow !== "visible" && e.scrollHeight > e.clientHeight + 1);
  const choices = [...root.querySelectorAll("select")].filter((select) => {
    if (!seen(select)) return false;
    const alone = select.cloneNode(false);
    alone.append(select.selectedOptions[0].cloneNode(true));
    alone.style.width = "max-content";
    select.after(alone);
    const needed = alone.offsetWidth;
    alone.remove();
    return needed > select.offsetWidth;
  }).map((select) => select.selectedOptions[0]);
  return [...lines, ...choices].map((element) => element.textContent);
}"""


def test_no_words_are_cut_on_a_telephone(make_page):
    """Neither a line nor what a list shows as chosen, which is compared with the width that it would take alone."""
    with open_lab(max_images=6) as lab:
        page = make_page(lab)
        for width in (300, 700, 1200):
            page.page.set_viewport_size({"width": width, "height": 900})
            for key in ("map", "sliders", "arithmetic", "strips", "samples", "images"):
                page.tab(key)
                assert page.page.locator(".latent-lab").evaluate(CUT) == [], (width, key)
        page.check_quiet()
