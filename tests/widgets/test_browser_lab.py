"""The lab in JupyterLab in a real browser: what is seen against the same thing calculated in the notebook's kernel."""

from __future__ import annotations

import json
import re
import time
from base64 import b64decode
from io import BytesIO

import nbformat
import pytest
from PIL import Image

from support.rig import LIMIT, READY, write_notebook

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

CIRCLES = """
import hashlib, json, torch
import vae_plugin.widgets.lab
from vae_plugin.widgets import LatentLab
from vae_plugin.widgets.codec import to_rgba
def digest(lab, latent=None):
    z = lab.latent if latent is None else latent
    with torch.no_grad():
        image = lab.model.decode(z[None]).sample
    return hashlib.sha256(to_rgba(image).tobytes()).hexdigest()
lab = LatentLab(max_images=48)
lab
"""
CODES = """
from vae_plugin import AutoencoderVQVAE
torch.manual_seed(0)
vq = AutoencoderVQVAE(block_out_channels=(8, 16, 16), norm_num_groups=4, sample_size=32, num_vq_embeddings=24)
second = LatentLab(vq.eval(), max_images=24)
second
"""
BANDS = """
from vae_plugin import AutoencoderVAE
torch.manual_seed(0)
five = AutoencoderVAE(in_channels=5, block_out_channels=(8, 8), norm_num_groups=4, sample_size=16, sigma=0.3)
third = LatentLab(five.eval(), torch.rand(6, 5, 16, 16) * 2 - 1)
third
"""
COUNT = """
count, receive = 0, LAB._panel.receive
def counted(*message):
    global count
    count += 1
    receive(*message)
LAB._panel.receive = counted
"""
LOOK = """(root) => [root.innerText]
  .concat([...root.querySelectorAll("input")].map((input) => input.value))
  .concat([...root.querySelectorAll("canvas")].map((canvas) => canvas.toDataURL())).join()"""
DIGEST = """async (canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}"""


class Panel:
    """One lab on the page, and its variable in the kernel."""

    def __init__(self, browser, number, variable):
        self.browser, self.page, self.variable = browser, browser.page, variable
        self.root = browser.page.locator(".latent-lab").nth(number)

    @property
    def element(self):
        return self.root.element_handle()

    def tab(self, key):
        self.root.locator(f'[data-tab="{key}"]').click()

    def find(self, selector):
        return self.root.locator(selector)

    def python(self, code):
        return self.browser.python(code.replace("LAB", self.variable)).strip()

    def settle(self):
        """Wait until page and kernel have nothing on their way: until nothing changes any more."""
        before, now = None, self.snapshot()
        while now != before:
            before, now = now, self.snapshot()

    def snapshot(self):
        """What page and kernel show, after a pause in which each can answer the other."""
        self.page.wait_for_timeout(150)
        kernel = self.python(f"print(LAB.wait({LIMIT}), id(LAB._session.state), len(LAB.get_state()['_shelf']))")
        assert kernel.startswith("True")
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return kernel, self.root.evaluate(LOOK)

    def shown(self):
        """Digest of the decoded picture's pixels on the page."""
        return self.find(".ll-stage canvas").nth(1).evaluate(DIGEST)

    def fresh(self):
        """From the first image again, with an empty shelf."""
        self.python("LAB.shelf = []; LAB.image = LAB.images[0]")
        self.settle()

    def complaint(self):
        return " ".join(self.find(".ll-alert:visible").all_inner_texts())


@pytest.fixture(scope="module")
def page(server, browser, rig_folders):
    write_notebook(rig_folders[0] / "lab.ipynb", [CIRCLES, CODES, BANDS])
    browser.open(server, "lab.ipynb")
    browser.run_all()
    browser.page.wait_for_selector(".latent-lab >> nth=2")
    browser.page.wait_for_selector(".latent-lab input[data-axis]")
    return browser


@pytest.fixture
def circles(page):
    panel = Panel(page, 0, "lab")
    panel.fresh()
    return panel


@pytest.fixture
def codes(page):
    panel = Panel(page, 1, "second")
    panel.fresh()
    return panel


def set_slider(locator, value):
    locator.evaluate(
        """(input, value) => {
          input.value = value;
          input.dispatchEvent(new Event("input", { bubbles: true }));
          input.dispatchEvent(new Event("change", { bubbles: true }));
        }""",
        value,
    )


def test_it_opens_with_a_picture_and_without_a_request_to_elsewhere(circles):
    assert circles.shown() == circles.python("print(digest(LAB))")
    assert "PSNR" in circles.find(".ll-measured").inner_text()
    assert circles.browser.outside == []
    assert circles.browser.errors == []


def test_dragging_a_slider_with_the_mouse_moves_latent_and_pixels_together(circles):
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


def test_the_point_on_the_map_is_dragged(circles):
    circles.tab("map")
    canvas = circles.find(".ll-map")
    box = canvas.bounding_box()
    before = circles.shown()
    circles.page.mouse.move(box["x"] + 50, box["y"] + 60)
    circles.page.mouse.down()
    circles.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3, steps=8)
    circles.page.mouse.up()
    circles.settle()
    words = canvas.get_attribute("aria-label")
    said = [float(x) for x in re.search(r"At direction 1 (\S+), direction 2 (\S+)\.", words).groups()]
    real = json.loads(circles.python("print([LAB.space.coordinate(LAB.latent, f'direction {i}') for i in (1, 2)])"))
    assert real == pytest.approx(said, rel=0.01, abs=0.01)
    assert before != circles.shown() == circles.python("print(digest(LAB))")


def test_arithmetic_on_the_shelf_gives_the_picture_of_the_same_arithmetic_in_python(circles):
    for i in (2, 7, 11):
        circles.tab("images")
        circles.find(".ll-thumbs .ll-thumb").nth(i).click()
        circles.settle()
        circles.find("button").filter(has_text=re.compile("^Keep$")).click()
        circles.settle()
    circles.tab("arithmetic")
    circles.root.get_by_label("A − B + C", exact=True).check()
    circles.root.get_by_role("button", name="Calculate A − B + C").click()
    circles.settle()
    circles.python("z2, z7, z11 = (LAB.encode(LAB.images[i]) for i in (2, 7, 11))")
    assert circles.python("print(torch.allclose(LAB.latent, z2 - z7 + z11, atol=1e-5))") == "True"
    assert circles.shown() == circles.python("print(digest(LAB))")

    circles.root.get_by_label("Between A and B").check()
    set_slider(circles.root.get_by_label("Position from A to B"), 0.25)
    circles.settle()
    expected = "from vae_plugin.latents import slerp; print(torch.allclose(LAB.latent, slerp(z2, z7, 0.25), atol=1e-5))"
    assert circles.python(expected) == "True"
    assert circles.shown() == circles.python("print(digest(LAB))")


def test_the_code_that_is_copied_repeats_the_latent(circles):
    set_slider(circles.find("input[data-axis]").first, 1.25)
    circles.settle()
    circles.root.get_by_role("button", name="Copy code").click()
    circles.page.wait_for_function("(e) => e.value !== ''", arg=circles.find(".ll-code-text").element_handle())
    code = circles.find(".ll-code-text").input_value()
    check = "print(torch.allclose(scope['z'], LAB.latent, atol=1e-6))"
    assert circles.python(f"scope = {{'lab': lab}}\nexec({code!r}, scope)\n{check}") == "True"


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
    page.keyboard.press("ArrowRight")
    assert circles.root.get_by_role("tab", name="Map").get_attribute("aria-selected") == "true"
    page.keyboard.press("Tab")  # the three selects, then the map
    for _ in range(3):
        page.keyboard.press("Tab")
    assert "ll-map" in page.evaluate("document.activeElement.className")
    x = float(circles.python("print(LAB.space.coordinate(LAB.latent, 'direction 1'))"))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    circles.settle()
    assert float(circles.python("print(LAB.space.coordinate(LAB.latent, 'direction 1'))")) > x
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_what_python_sets_is_shown(circles):
    circles.python("LAB.latent = torch.linspace(-1, 1, 5)")
    circles.settle()
    assert circles.shown() == circles.python("print(digest(LAB, torch.linspace(-1, 1, 5).view(5, 1, 1)))")
    circles.tab("sliders")
    axis = circles.find("input[data-axis]").first
    index = int(axis.get_attribute("data-axis").split()[1])
    assert float(axis.input_value()) == pytest.approx(-1 + 2 * index / 4, abs=0.02)


def test_two_labs_do_not_disturb_each_other(circles, codes):
    before = circles.shown()
    set_slider(codes.find("input[data-axis]").first, 0.5)
    codes.settle()
    assert circles.shown() == before
    assert codes.shown() == codes.python("print(digest(LAB))")


def test_a_code_is_chosen_from_the_codebook(codes):
    codes.tab("codes")
    grid = codes.find(".ll-positions:visible")
    box = grid.bounding_box()
    grid.click(position={"x": box["width"] * 2.5 / 8, "y": box["height"] * 4.5 / 8})
    codes.settle()
    before = json.loads(codes.python("print(LAB.indices.tolist())"))
    choice = codes.find(".ll-code").nth(5)
    code = int(choice.get_attribute("data-code"))
    assert code != before[4][2]
    choice.click()
    codes.settle()
    after = json.loads(codes.python("print(LAB.indices.tolist())"))
    before[4][2] = code
    assert after == before
    expected = (
        "ids = LAB.indices; print(hashlib.sha256(to_rgba(vq.decode_indices(ids[None]).detach()).tobytes()).hexdigest())"
    )
    assert codes.shown() == codes.python(expected)


def test_the_brush_changes_one_position(codes):
    codes.tab("brush")
    codes.python("z = LAB.latent.clone()")
    grid = codes.find(".ll-positions:visible")
    box = grid.bounding_box()
    grid.click(position={"x": box["width"] * 6.5 / 8, "y": box["height"] * 1.5 / 8})
    codes.settle()
    assert codes.python("print((LAB.latent != z).nonzero().tolist())") == "[[0, 1, 6]]"


def test_strips_and_samples_are_drawn_and_taken(circles):
    circles.tab("samples")
    circles.find(".ll-primary").filter(has_text="Draw").nth(1).click()
    circles.settle()
    samples = circles.find(".ll-strip").nth(1).locator("button")
    assert samples.count() == 12
    samples.nth(3).click()
    circles.settle()
    drawn = "torch.randn(12, 8, 1, 1, generator=torch.Generator().manual_seed(0))[3]"
    assert circles.python(f"print(torch.equal(LAB.latent, {drawn}))") == "True"
    assert circles.shown() == circles.python("print(digest(LAB))")


def test_a_dropped_file_is_encoded_and_a_wrong_one_refused_in_one_sentence(circles, tmp_path):
    Image.new("RGB", (80, 64), (200, 30, 60)).save(tmp_path / "red <b>.png")
    circles.tab("images")
    circles.find("input[type=file]").set_input_files(tmp_path / "red <b>.png")
    circles.settle()
    assert "red <b>.png" in circles.find(".ll-measured").inner_text()
    assert circles.python("print(LAB.original.getpixel((5, 5)))") == "(200, 30, 60)"
    (tmp_path / "broken.png").write_bytes(b"this is no image")
    circles.find("input[type=file]").set_input_files(tmp_path / "broken.png")
    circles.settle()
    assert "cannot be read as an image" in circles.complaint()


def test_names_are_text_and_never_html(circles):
    circles.python("LAB.keep('<img src=x onerror=\"window.hacked=1\">')")
    circles.settle()
    assert circles.find(".ll-shelf .ll-name").inner_text() == '<img src=x onerror="window.hacked=1">'
    assert circles.find(".ll-name img").count() == 0
    assert circles.page.evaluate("window.hacked") is None


def test_the_picture_is_saved(circles, tmp_path):
    with circles.page.expect_download() as download:
        circles.root.get_by_role("button", name="Save PNG").click()
    download.value.save_as(tmp_path / "saved.png")
    circles.python(f"from PIL import Image; saved = Image.open({str(tmp_path / 'saved.png')!r})")
    assert circles.python("print(saved.tobytes() == LAB.image.tobytes())") == "True"


@pytest.mark.parametrize("width", [420, 700, 1400])
def test_nothing_sticks_out_of_a_narrow_cell(circles, width):
    circles.page.set_viewport_size({"width": width, "height": 1500})
    try:
        circles.page.wait_for_function(
            "(root) => root.getBoundingClientRect().right <= innerWidth", arg=circles.element
        )
        circles.settle()
        for key in ("sliders", "map", "arithmetic", "samples", "images"):
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


def test_everything_that_is_operated_has_a_name_and_keeps_its_keys(circles):
    nameless = circles.root.evaluate(
        """(root) => [...root.querySelectorAll("button, input, select, textarea, canvas[tabindex]")].filter((e) => {
          const words = e.tagName === "BUTTON" && e.textContent.trim();
          const named = e.getAttribute("aria-label") || e.labels?.length || words;
          return !named || !e.hasAttribute("data-lm-suppress-shortcuts");
        }).map((e) => e.outerHTML.slice(0, 100))"""
    )
    assert nameless == []


def test_the_saved_notebook_has_the_last_picture_for_the_time_without_a_kernel(circles, page, server, rig_folders):
    circles.python("LAB.latent = torch.zeros(8)")
    circles.settle()
    # The latent was not encoded from an image: one picture, below a line of words, enlarged.
    shown = circles.python("print(LAB.image.convert('RGB').resize((192, 192), 0).tobytes().hex())")
    end = time.monotonic() + LIMIT
    while True:  # the page may still be drawing the output
        page.page.evaluate("async () => { await window.jupyterapp.commands.execute('docmanager:save'); }")
        notebook = nbformat.read(rig_folders[0] / "lab.ipynb", 4)
        outputs = [output for output in notebook.cells[0].outputs if "image/png" in output.get("data", {})]
        assert len(outputs) == 1
        still = Image.open(BytesIO(b64decode(outputs[0].data["image/png"]))).convert("RGB")
        if still.crop((0, 16, 192, 208)).tobytes().hex() == shown or time.monotonic() > end:
            break
        page.page.wait_for_timeout(200)
    assert still.crop((0, 16, 192, 208)).tobytes().hex() == shown
    visible = page.page.locator("figure[data-latent-lab-still]:visible").count()
    assert visible == 0  # the live lab hides it

    from nbconvert import HTMLExporter

    body, _ = HTMLExporter().from_notebook_node(notebook)
    assert outputs[0].data["image/png"][:200].replace("\n", "") in body.replace("\n", "")


@pytest.mark.slow
def test_after_a_restart_the_picture_stays_and_running_again_works(circles, page):
    seen = circles.shown()
    kernel = "window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel"
    page.page.evaluate(f"async () => {{ await {kernel}.restart(); }}")
    page.page.wait_for_function(READY)
    page.page.wait_for_timeout(1000)  # in which nothing must happen
    assert circles.shown() == seen
    page.run_all()
    page.page.wait_for_function("() => document.querySelectorAll('.latent-lab input[data-axis]').length > 8")
    again = Panel(page, 0, "lab")
    again.settle()
    set_slider(again.find("input[data-axis]").first, -0.5)
    again.settle()
    assert again.shown() == again.python("print(digest(LAB))")
    assert page.errors == []


def test_the_bands_are_chosen_by_the_keyboard(page, circles):
    panel = Panel(page, 2, "third")
    panel.settle()
    expected = (
        "print(hashlib.sha256(to_rgba(LAB.model.decode(LAB.latent[None]).sample.detach(), {}).tobytes()).hexdigest())"
    )
    assert panel.shown() == panel.python(expected.format((0, 1, 2)))
    red = panel.root.get_by_role("group", name="Bands").get_by_label("Red: band that is shown")
    assert red.locator("option").all_inner_texts() == [f"band {number}" for number in range(5)]
    red.focus()
    page.page.keyboard.type("band 4")
    panel.settle()
    assert panel.python("print(LAB.bands)") == "(4, 1, 2)"
    assert panel.shown() == panel.python(expected.format((4, 1, 2)))
    panel.python("LAB.bands = 3")
    panel.settle()
    assert [panel.find(f"[data-band={colour}]").input_value() for colour in ("red", "green", "blue")] == ["3"] * 3
    assert panel.shown() == panel.python(expected.format((3,)))
    assert not circles.find("[data-band]").count()  # gray and RGB are shown as they are
