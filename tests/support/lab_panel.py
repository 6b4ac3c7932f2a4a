"""Labs in a notebook in a real browser: their cells, and a handle for one of them on the page and in the kernel."""

from __future__ import annotations

from typing import Any

from support.rig import LIMIT

CIRCLES = """
import hashlib, json, torch
import vae_plugin.widgets.lab
from vae_plugin.widgets import LatentLab
from vae_plugin.widgets.codec import to_rgba
vae_plugin.widgets.lab.FIRST_PICTURE = 300
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
LOOK = """(root) => [root.innerText]
  .concat([...root.querySelectorAll("input")].map((input) => input.value))
  .concat([...root.querySelectorAll("canvas")].filter((e) => e.offsetParent).map((e) => e.toDataURL())).join()"""
DIGEST = """async (canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}"""
SET = """(input, value) => {
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  input.dispatchEvent(new Event("change", { bubbles: true }));
}"""
COLOURS = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const seen = new Set();
  for (let i = 0; i < data.length; i += 4) seen.add(data.slice(i, i + 4).join());
  return seen.size;
}"""


class Panel:
    """One lab on the page, and its variable in the kernel."""

    def __init__(self, browser: Any, number: int, variable: str) -> None:
        self.browser, self.page, self.variable = browser, browser.page, variable
        self.root = browser.page.locator(".latent-lab").nth(number)

    @property
    def element(self) -> Any:
        return self.root.element_handle()

    def tab(self, key: str) -> None:
        self.root.locator(f'[data-tab="{key}"]').click()

    def find(self, selector: str) -> Any:
        return self.root.locator(selector)

    def python(self, code: str) -> str:
        return self.browser.python(code.replace("LAB", self.variable)).strip()

    def settle(self) -> None:
        """Wait until page and kernel have nothing on their way: until nothing changes any more."""
        before, now = None, self.snapshot()
        while now != before:
            before, now = now, self.snapshot()

    def snapshot(self) -> Any:
        """What page and kernel show, after a pause in which each can answer the other."""
        self.page.wait_for_timeout(350)  # longer than the front end waits before it asks for more pictures
        kernel = self.python(f"print(LAB.wait({LIMIT}), id(LAB._session.state), len(LAB.get_state()['_shelf']))")
        assert kernel.startswith("True")
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return kernel, self.root.evaluate(LOOK)

    def shown(self) -> str:
        """Digest of the decoded picture's pixels on the page."""
        return self.find(".ll-stage canvas").nth(1).evaluate(DIGEST)

    def fresh(self) -> None:
        """From the first image again, with an empty shelf and no selection."""
        self.page.bring_to_front()
        self.python("LAB.shelf = []; LAB.selection = []; LAB.image = LAB.images[0]")
        self.settle()

    def complaint(self) -> str:
        return " ".join(self.find(".ll-alert:visible").all_inner_texts())

    def more(self, action: str) -> None:
        """Choose an action of the menu."""
        self.root.get_by_role("button", name="More").click()
        self.root.get_by_role("menuitem", name=action).click()


def set_slider(locator: Any, value: float) -> None:
    """Move a slider as its user does."""
    locator.evaluate(SET, value)
