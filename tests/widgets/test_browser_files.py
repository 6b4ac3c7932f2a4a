"""Files that come into the lab and leave it, in a browser."""

from __future__ import annotations

import pytest
from PIL import Image

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


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


@pytest.mark.parametrize("way", ["menu", "keys"])
def test_the_picture_is_saved(circles, tmp_path, way):
    with circles.page.expect_download() as download:
        if way == "menu":
            circles.more("Save picture")
        else:
            circles.root.get_by_role("button", name="Keep", exact=True).focus()
            circles.page.keyboard.press("Control+s")
    download.value.save_as(tmp_path / "saved.png")
    circles.python(f"from PIL import Image; saved = Image.open({str(tmp_path / 'saved.png')!r})")
    assert circles.python("print(saved.tobytes() == LAB.image.tobytes())") == "True"


def test_a_file_is_dropped_on_the_picture_which_says_so(circles):
    data = circles.page.evaluate_handle(
        """async () => {
          const canvas = Object.assign(document.createElement("canvas"), { width: 40, height: 40 });
          const context = canvas.getContext("2d");
          context.fillStyle = "rgb(10, 200, 30)";
          context.fillRect(0, 0, 40, 40);
          const blob = await new Promise((done) => canvas.toBlob(done));
          const data = new DataTransfer();
          data.items.add(new File([blob], "green.png", { type: "image/png" }));
          return data;
        }"""
    )
    picture = circles.find(".ll-stage canvas").nth(1)
    picture.dispatch_event("dragover", {"dataTransfer": data})
    assert circles.root.get_by_text("Drop to encode").is_visible()
    picture.dispatch_event("drop", {"dataTransfer": data})
    assert not circles.root.get_by_text("Drop to encode").is_visible()
    circles.settle()
    assert circles.python("print(LAB.original.getpixel((5, 5)))") == "(10, 200, 30)"


def test_the_image_that_is_open_is_marked(circles):
    circles.tab("images")
    circles.find('[data-page=images] [data-row="9"]').click()
    circles.settle()
    marked = circles.find("[data-page=images] [aria-current]")
    assert [marked.nth(i).get_attribute("data-row") for i in range(marked.count())] == ["9"]
    circles.python("LAB.latent = torch.zeros_like(LAB.latent)")
    circles.settle()
    assert circles.find("[data-page=images] [aria-current]").count() == 0
