"""The lab in JupyterLab in a real browser: what is seen against the same thing calculated in the notebook's kernel."""

from __future__ import annotations

import time
from base64 import b64decode
from io import BytesIO

import nbformat
import pytest
from PIL import Image

from support.lab_panel import Panel, set_slider
from support.rig import LIMIT, READY

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def test_it_opens_with_a_picture_and_without_a_request_to_elsewhere(circles):
    assert circles.shown() == circles.python("print(digest(LAB))")
    assert "PSNR" in circles.find(".ll-measured").inner_text()
    assert circles.browser.outside == []
    assert circles.browser.errors == []


def test_what_python_sets_is_shown(circles):
    last = int(circles.python("print(LAB.latent.numel() - 1)"))
    circles.python("LAB.latent = given = torch.linspace(-1, 1, LAB.latent.numel()).view(LAB.latent.shape)")
    circles.settle()
    assert circles.shown() == circles.python("print(digest(LAB, given))")
    circles.tab("sliders")
    axis = circles.find("input[data-axis]").first
    index = int(axis.get_attribute("data-axis").split()[1])
    assert float(axis.input_value()) == pytest.approx(-1 + 2 * index / last, abs=0.02)


def test_two_labs_do_not_disturb_each_other(circles, codes):
    codes.tab("sliders")
    before = circles.shown()
    set_slider(codes.find("input[data-axis]").first, 0.5)
    codes.settle()
    assert circles.shown() == before
    assert codes.shown() == codes.python("print(digest(LAB))")


def test_names_are_text_and_never_html(circles):
    circles.python("LAB.keep('<img src=x onerror=\"window.hacked=1\">')")
    circles.settle()
    assert circles.find(".ll-shelf .ll-name").inner_text() == '<img src=x onerror="window.hacked=1">'
    assert circles.find(".ll-name img").count() == 0
    assert circles.page.evaluate("window.hacked") is None


def test_the_bands_are_chosen_by_the_keyboard(bands, circles):
    expected = (
        "print(hashlib.sha256(to_rgba(LAB.model.decode(LAB.latent[None]).sample.detach(), {}).tobytes()).hexdigest())"
    )
    assert bands.shown() == bands.python(expected.format((0, 1, 2)))
    red = bands.root.get_by_role("group", name="Bands").get_by_label("Red: band that is shown")
    assert red.locator("option").all_inner_texts() == [f"band {number}" for number in range(5)]
    red.focus()
    bands.page.keyboard.type("band 4")
    bands.settle()
    assert bands.python("print(LAB.bands)") == "(4, 1, 2)"
    assert bands.shown() == bands.python(expected.format((4, 1, 2)))
    bands.python("LAB.bands = 3")
    bands.settle()
    assert [bands.find(f"[data-band={colour}]").input_value() for colour in ("red", "green", "blue")] == ["3"] * 3
    assert bands.shown() == bands.python(expected.format((3,)))
    assert not circles.find("[data-band]").count()  # gray and RGB are shown as they are


def test_the_saved_notebook_has_the_last_picture_for_the_time_without_a_kernel(circles, labs, rig_folders):
    circles.python("LAB.latent = torch.zeros_like(LAB.latent)")
    circles.settle()
    # The latent was not encoded from an image: one picture, below a line of words, enlarged.
    shown = circles.python("print(LAB.image.convert('RGB').resize((160, 160), 0).tobytes().hex())")
    end = time.monotonic() + LIMIT
    while True:  # the page may still be drawing the output
        labs.page.evaluate("async () => { await window.jupyterapp.commands.execute('docmanager:save'); }")
        notebook = nbformat.read(rig_folders[0] / "lab.ipynb", 4)
        outputs = [output for output in notebook.cells[0].outputs if "image/png" in output.get("data", {})]
        assert len(outputs) == 1
        still = Image.open(BytesIO(b64decode(outputs[0].data["image/png"]))).convert("RGB")
        if still.crop((0, 16, 160, 176)).tobytes().hex() == shown or time.monotonic() > end:
            break
        labs.page.wait_for_timeout(200)
    assert still.crop((0, 16, 160, 176)).tobytes().hex() == shown
    visible = labs.page.locator("figure[data-latent-lab-still]:visible").count()
    assert visible == 0  # the live lab hides it

    from nbconvert import HTMLExporter

    body, _ = HTMLExporter().from_notebook_node(notebook)
    assert outputs[0].data["image/png"][:200].replace("\n", "") in body.replace("\n", "")


@pytest.mark.slow
def test_after_a_restart_the_picture_stays_and_running_again_works(circles, labs):
    seen = circles.shown()
    kernel = "window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel"
    labs.page.evaluate(f"async () => {{ await {kernel}.restart(); }}")
    labs.page.wait_for_function(READY)
    labs.page.wait_for_timeout(1000)  # in which nothing must happen
    assert circles.shown() == seen
    labs.run_all()
    labs.page.wait_for_function("() => document.querySelectorAll('.latent-lab input[data-axis]').length > 8")
    again = Panel(labs, 0, "lab")
    again.settle()
    set_slider(again.find("input[data-axis]").first, -0.5)
    again.settle()
    assert again.shown() == again.python("print(digest(LAB))")
    assert labs.errors == []
