"""Arithmetic, strips and samples of the lab in a browser, against the same calculated in the kernel."""

from __future__ import annotations

import pytest

from support.lab_panel import COLOURS, DIGEST, set_slider

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def keep_images(panel, *rows):
    """Put the latents of images on the shelf by hand."""
    for row in rows:
        panel.tab("images")
        panel.find(f'[data-page=images] [data-row="{row}"]').click()
        panel.settle()
        panel.root.get_by_role("button", name="Keep", exact=True).click()
        panel.settle()


def test_arithmetic_begins_with_images_and_their_results_although_the_shelf_is_empty(circles):
    before = circles.shown()
    circles.tab("arithmetic")
    circles.root.get_by_role("radio", name="A to B").check(force=True)
    circles.settle()
    names = [circles.find(f"[data-slot={letter}] .ll-name").inner_text() for letter in "ab"]
    circles.python("number = {LAB.images.name(i): i for i in range(48)}")
    circles.python(f"from vae_plugin.latents import slerp; a, b = (LAB.encoded(number[n]).latent for n in {names})")
    pictures = circles.find(".ll-results canvas")
    assert pictures.count() == 7
    for i in (0, 2, 6):
        assert pictures.nth(i).evaluate(DIGEST) == circles.python(f"print(digest(LAB, slerp(a, b, {i} / 6)))")
    assert circles.shown() == before  # nothing has been changed yet
    circles.root.get_by_role("radio", name="A − B + C").check(force=True)
    circles.settle()
    assert circles.find(".ll-results canvas").count() > 1
    assert all(circles.find(".ll-results canvas").nth(i).evaluate(COLOURS) > 1 for i in range(2))


def test_arithmetic_on_the_shelf_gives_the_picture_of_the_same_arithmetic_in_python(circles):
    keep_images(circles, 2, 7, 11)
    circles.tab("arithmetic")
    circles.root.get_by_role("radio", name="A − B + C").check(force=True)
    circles.settle()
    result = circles.root.get_by_role("button", name="Use A − B + C", exact=True)
    circles.python("z2, z7, z11 = (LAB.encode(LAB.images[i]) for i in (2, 7, 11))")
    assert result.locator("canvas").evaluate(DIGEST) == circles.python("print(digest(LAB, z2 - z7 + z11))")
    result.click()
    circles.settle()
    assert circles.python("print(torch.allclose(LAB.latent, z2 - z7 + z11, atol=1e-5))") == "True"
    assert circles.shown() == circles.python("print(digest(LAB))")

    circles.root.get_by_role("radio", name="A to B").check(force=True)
    set_slider(circles.root.get_by_label("Position from A to B"), 0.25)
    circles.settle()
    expected = "from vae_plugin.latents import slerp; print(torch.allclose(LAB.latent, slerp(z2, z7, 0.25), atol=1e-5))"
    assert circles.python(expected) == "True"
    assert circles.shown() == circles.python("print(digest(LAB))")


def test_an_operand_is_chosen_from_pictures_by_the_keyboard(circles):
    circles.tab("arithmetic")
    circles.root.get_by_role("radio", name="A to B").check(force=True)
    set_slider(circles.root.get_by_label("Position from A to B"), 0)
    circles.settle()
    slot = circles.find("[data-slot=a]")
    slot.focus()
    circles.page.keyboard.press("Enter")
    picker = circles.root.get_by_role("dialog", name="Choose A")
    assert picker.locator("button").count() == 48
    choice = picker.locator('[data-key="image:5"]')
    choice.focus()
    circles.page.keyboard.press("Enter")
    circles.settle()
    assert not picker.is_visible()
    assert slot.evaluate("(slot) => slot === document.activeElement")
    # A is where the position is: it has become the current latent, and the code names it.
    assert circles.python("print(torch.allclose(LAB.latent, LAB.encoded(5).latent, atol=1e-4))") == "True"
    assert circles.python("exec(LAB.code, scope := {'lab': LAB}); print(torch.equal(scope['z'], LAB.latent))") == "True"


def test_the_weighted_sum_and_an_attribute_are_drawn_and_moved(circles):
    keep_images(circles, 1, 4)
    circles.tab("arithmetic")
    circles.root.get_by_role("radio", name="Weighted sum").check(force=True)
    circles.settle()
    sliders = circles.find(".ll-weight input[type=range]")
    for i, weight in enumerate((1.5, -0.5)):
        set_slider(sliders.nth(i), weight)
    circles.settle()
    expected = "1.5 * LAB.shelf[0].latent - 0.5 * LAB.shelf[1].latent"
    assert circles.python(f"print(torch.allclose(LAB.latent, {expected}, atol=1e-5))") == "True"

    circles.root.get_by_role("radio", name="Attribute").check(force=True)
    circles.root.get_by_label("Attribute", exact=True).last.select_option(label="large radius")
    circles.settle()
    circles.python("z, way = LAB.latent, LAB.group('radius').mean(0) - LAB.group('radius', inside=False).mean(0)")
    pictures = circles.find(".ll-results canvas")
    assert pictures.nth(4).evaluate(DIGEST) == circles.python("print(digest(LAB, z + 2 * way))")
    set_slider(circles.root.get_by_role("slider", name="Strength"), -1)
    circles.settle()
    assert circles.python("print(torch.allclose(LAB.latent, z - way, atol=1e-5))") == "True"


def test_the_code_that_is_copied_repeats_the_latent(circles):
    circles.tab("sliders")
    circles.settle()
    set_slider(circles.find("input[data-axis]").first, 1.25)
    circles.settle()
    circles.more("Copy Python code")
    circles.page.wait_for_function("(e) => e.value !== ''", arg=circles.find(".ll-code-text").element_handle())
    code = circles.find(".ll-code-text").input_value()
    check = "print(torch.allclose(scope['z'], LAB.latent, atol=1e-6))"
    assert circles.python(f"scope = {{'lab': lab}}\nexec({code!r}, scope)\n{check}") == "True"


def test_strips_are_drawn_at_first_sight_and_a_picture_is_taken(circles):
    circles.tab("strips")
    circles.settle()
    pictures = circles.find(".ll-strips button")
    assert pictures.count() == 5 * 7  # x, y, radius and two for the hue
    axis, value = pictures.nth(3 * 7 + 5).get_attribute("title").split(" = ")
    circles.python(f"z = LAB.latent; low, high = LAB.space.ends({axis!r})")
    circles.python(f"expected = LAB.space.move(z, {axis!r}, torch.linspace(low, high, 7)[5].item())")
    value_there = float(circles.python("print(torch.linspace(low, high, 7)[5].item())"))
    assert float(value) == pytest.approx(value_there, rel=0.01)
    drawn = "LAB._panel._sheets._sheets['strip'].latents[3 * 7 + 5]"
    assert circles.python(f"print(torch.allclose({drawn}, expected, atol=1e-6))") == "True"
    pictures.nth(3 * 7 + 5).click()
    circles.settle()
    assert circles.python("print(torch.allclose(LAB.latent, expected, atol=1e-6))") == "True"


def test_samples_are_drawn_at_first_sight_and_one_is_taken(circles):
    circles.tab("samples")
    circles.settle()
    samples = circles.find("[data-page=samples] .ll-thumb")
    assert samples.count() == 24
    samples.nth(3).click()
    circles.settle()
    drawn = "torch.randn(24, *LAB.latent.shape, generator=torch.Generator().manual_seed(0))[3]"
    assert circles.python(f"print(torch.equal(LAB.latent, {drawn}))") == "True"
    assert circles.shown() == circles.python("print(digest(LAB))")
