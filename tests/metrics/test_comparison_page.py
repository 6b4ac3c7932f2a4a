"""The page to compare by eye: in a real browser, from a file."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from vae_plugin.metrics import Compared, comparison_page, write_page

HOSTILE = '</script><img src=x onerror="alert(1)"> & "quoted" \u2028 東京'
SIDES = (24, 40)  # height and width


def image(seed, channels=3, sides=SIDES):
    levels = np.random.default_rng(seed).integers(0, 256, (channels, *sides))
    return torch.from_numpy(levels).float() / 127.5 - 1


def levels_of(x):
    return ((x.numpy() + 1) * 127.5).round().astype(np.uint8).transpose(1, 2, 0)


MODELS = {"A": {"psnr": 8.0, "ssim": 0.1}, HOSTILE: {"psnr": 9.0, "ssim": 0.2}}
IMAGES = [Compared(f"photo {i}.png", image(i), [image(10 + i), image(20 + i)], tags=("best of A",)) for i in range(3)]


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def png(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def test_pictures_are_lossless_and_measured():
    data = data_of(comparison_page(IMAGES, MODELS, 100))
    for given, shown in zip(IMAGES, data["images"], strict=True):
        for x, url in zip([given.original, *given.reconstructions], shown["pictures"], strict=True):
            assert (png(url) == levels_of(x)).all()
        for x, value in zip(given.reconstructions, shown["psnr"], strict=True):
            assert value == pytest.approx(peak_signal_noise_ratio(levels_of(given.original), levels_of(x)), abs=1e-4)
    assert data["models"][1]["name"] == HOSTILE
    assert data["num_images"] == 100


@pytest.mark.parametrize(("channels", "shown"), [(1, (0, 0, 0)), (2, (0, 0, 0)), (5, (0, 1, 2))])
def test_bands_that_are_shown(channels, shown):
    x = image(0, channels)
    [found] = data_of(comparison_page([Compared("x", x, [])], {}, 1))["images"]
    picture = png(found["pictures"][0])
    expected = levels_of(x)[..., list(shown)]
    assert (picture == (expected[..., 0] if channels < 3 else expected)).all()


def test_transparent_images_are_on_white():
    x = torch.tensor([1.0, -1, -1, -1]).view(4, 1, 1).expand(4, 8, 8)  # red, but not to be seen
    [found] = data_of(comparison_page([Compared("x", x, [])], {}, 1))["images"]
    assert (png(found["pictures"][0]) == 255).all()


def test_names_are_text_wherever_they_stand():
    page = comparison_page([Compared(HOSTILE, image(0), [image(1), image(2)], (HOSTILE,))], MODELS, 1, title=HOSTILE)
    assert page.count("</script>") == 2
    assert "<img src=x" not in page
    assert "http" not in re.sub(r'http-equiv="', "", page)  # no address of another machine


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ValueError, match="no image"):
        comparison_page([], MODELS, 0)
    with pytest.raises(ValueError, match=r"1 reconstruction\(s\) of x for 2 model"):
        comparison_page([Compared("x", image(0), [image(1)])], MODELS, 1)


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "compare.html"
    text = comparison_page(IMAGES, MODELS, 100, title=HOSTILE)
    assert write_page(path, text) == path.stat().st_size
    page = browser.context.new_page()
    page.asked, page.errors = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())
    yield page
    page.close()


STAGE = "() => { const c = document.getElementById('canvas'); return [c.width, c.height]; }"
READ = """(place) => { const c = document.getElementById('canvas');
  return [...c.getContext('2d').getImageData(...place).data]; }"""


def shown(page, number=0):
    page.wait_for_selector(f"body[data-image='{number}']")  # wait_for_function needs eval, which the page forbids


def pixels(page, sides=SIDES):
    """The image on the stage, at 1:1: (H, W, 3)."""
    width, height = page.evaluate(STAGE)
    left, top = (width - sides[1] + 1) // 2, (height - sides[0] + 1) // 2
    read = page.evaluate(READ, [left, top, sides[1], sides[0]])
    return np.array(read, dtype=np.uint8).reshape(*sides, 4)[..., :3]


def choose(page, left, right, mode="wipe", wipe=None):
    page.select_option("#left", str(left))
    page.select_option("#right", str(right))
    page.select_option("#mode", mode)
    page.click("#one")
    if wipe is not None:
        page.focus("#divider")
        page.keyboard.press("Home")
        for _ in range(wipe):
            page.keyboard.press("ArrowRight")


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
class TestInABrowser:
    def test_pixels_of_the_canvas_are_those_of_the_images(self, page):
        page.click("#images button >> nth=0")
        shown(page)
        pictures = [levels_of(x) for x in (IMAGES[0].original, *IMAGES[0].reconstructions)]
        for left in range(3):
            choose(page, left, (left + 1) % 3)
            page.focus("#divider")
            page.keyboard.press("End")
            assert (pixels(page) == pictures[left]).all()
            page.keyboard.press("Home")
            assert (pixels(page) == pictures[(left + 1) % 3]).all()

    def test_the_wipe_shows_one_on_its_left_and_the_other_on_its_right(self, page):
        choose(page, 1, 2, wipe=13)
        a, b = (levels_of(x) for x in IMAGES[0].reconstructions)
        assert (pixels(page) == np.concatenate([a[:, :13], b[:, 13:]], 1)).all()
        page.keyboard.press("s")
        assert (pixels(page) == np.concatenate([b[:, :13], a[:, 13:]], 1)).all()

    def test_the_wipe_follows_the_pointer(self, page):
        choose(page, 0, 2, wipe=0)
        box = page.locator("#canvas").bounding_box()
        divider = page.locator("#divider").bounding_box()
        middle = divider["x"] + divider["width"] / 2
        page.mouse.move(middle, box["y"] + 30)
        page.mouse.down()
        page.mouse.move(middle + 11, box["y"] + 30, steps=3)
        page.mouse.up()
        x, b = levels_of(IMAGES[0].original), levels_of(IMAGES[0].reconstructions[1])
        assert (pixels(page) == np.concatenate([x[:, :11], b[:, 11:]], 1)).all()
        assert int(page.get_attribute("#divider", "aria-valuenow")) == round(100 * 11 / 40)

    @pytest.mark.parametrize("gain", [1, 8])
    def test_differences(self, page, gain):
        page.click("#images button >> nth=0")
        x, a = (levels_of(each).astype(int) for each in (IMAGES[0].original, IMAGES[0].reconstructions[0]))
        choose(page, 0, 1, "absolute")
        page.select_option("#gain", str(gain))
        assert (pixels(page) == (gain * np.abs(a - x)).clip(0, 255)).all()
        choose(page, 0, 1, "signed")
        assert (pixels(page) == (128 + gain * (a - x)).clip(0, 255)).all()
        assert f"white +{round(127 / gain)} of 255 levels" in page.inner_text("#scale")

    def test_zoom_is_whole_and_nearest_about_the_pointer(self, page):
        choose(page, 0, 1)
        page.focus("#divider")
        page.keyboard.press("End")
        box = page.locator("#canvas").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        for _ in range(2):
            page.mouse.wheel(0, -100)
        page.wait_for_selector("#zoom:text-is('3:1')")
        large = pixels(page, (3 * SIDES[0], 3 * SIDES[1]))
        assert (large == levels_of(IMAGES[0].original).repeat(3, 0).repeat(3, 1)).all()
        page.keyboard.press("-")
        assert page.inner_text("#zoom") == "2:1"

    def test_a_large_zoom_pans(self, page):
        choose(page, 0, 1)
        for _ in range(63):
            page.keyboard.press("+")
        assert page.inner_text("#zoom") == "64:1"
        page.focus("#divider")
        page.keyboard.press("End")
        for _ in range(99):
            page.keyboard.press("Shift+ArrowLeft")
        for _ in range(40):
            page.keyboard.press("Shift+ArrowUp")
        corner = np.array(page.evaluate(READ, [0, 0, 128, 64])).reshape(64, 128, 4)[..., :3]
        assert (corner == levels_of(IMAGES[0].original)[:1, :2].repeat(64, 0).repeat(64, 1)).all()

    def test_images_are_chosen_by_key_and_by_pointer(self, page):
        page.click("#images button >> nth=0")
        shown(page)
        page.keyboard.press("j")
        shown(page, 1)
        choose(page, 0, 1)
        page.focus("#divider")
        page.keyboard.press("End")
        assert (pixels(page) == levels_of(IMAGES[1].original)).all()
        page.keyboard.press("k")
        page.keyboard.press("k")
        shown(page, 2)
        assert page.locator("#images [aria-pressed=true]").count() == 1
        assert "photo 2.png" in page.inner_text("#caption")

    def test_names_and_measures(self, page):
        assert HOSTILE in page.title()
        rows = page.locator("#measures tr")
        assert rows.count() == 2
        assert rows.nth(1).locator("th").text_content() == HOSTILE
        assert "dB" in page.inner_text("#left-label") + page.inner_text("#right-label")

    @pytest.mark.parametrize("width", [300, 700, 1400])
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_fits_every_width_in_light_and_dark(self, page, width, scheme):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        assert dark == (scheme == "dark")
        for place in ("#canvas", "#left", "#zoom", "#measures"):
            box = page.locator(place).bounding_box()
            assert box["width"] > 20
            assert box["x"] + box["width"] <= width

    def test_nothing_is_asked_of_the_network_and_nothing_fails(self, page):
        assert [address for address in page.asked if not address.startswith("data:")] == [page.url]
        assert page.errors == []
