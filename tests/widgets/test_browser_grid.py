"""Codes and brush of a spatial latent in a browser, against the kernel."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


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
