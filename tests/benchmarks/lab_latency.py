"""From a slider's event to new pixels, in a real browser: the lab beside a widget that only returns a frame.

    python tests/benchmarks/lab_latency.py [--events 120] [--sizes 64 256]

needs the `test` extra and Chromium. JupyterLab runs on the loopback and headless Chromium opens a notebook with an
empty widget (a range input and a canvas; its kernel side answers each message at once with a frame of the same size)
and the lab with an `AutoencoderVAE` of that size. Events go to the two in turn, each after the answer to the last and a
pause; what is measured is the time from the `input` event to `putImageData` (or `drawImage`) on the canvas. Medians and
95th percentiles in ms; what counts is the difference: the floor is transport and browser on the same machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from support.rig import Browser, notebook_server, write_notebook

FLOOR = '''
import anywidget, os
class Floor(anywidget.AnyWidget):
    _esm = """
    export default { render({ model, el }) {
      const input = Object.assign(document.createElement("input"), { type: "range", className: "floor", max: 100 });
      const canvas = Object.assign(document.createElement("canvas"), { width: SIZE, height: SIZE });
      el.append(input, canvas);
      input.oninput = () => model.send({ value: input.value });
      model.on("msg:custom", (message, buffers) => {
        const view = buffers[0];
        const bytes = new Uint8ClampedArray(view.buffer, view.byteOffset, view.byteLength);
        canvas.getContext("2d").putImageData(new ImageData(bytes, SIZE, SIZE), 0, 0);
      });
    } };
    """.replace("SIZE", "%(size)d")
    def __init__(self):
        super().__init__()
        self.frames = [os.urandom(4 * %(size)d ** 2) for _ in range(4)]
        self.on_msg(lambda _, content, buffers: self.send({}, [self.frames[int(content["value"]) %% 4]]))
Floor()
'''
LAB = """
import torch
from vae_plugin import AutoencoderVAE
from vae_plugin.widgets import LatentLab
torch.manual_seed(0)
%(model)s
lab = LatentLab(vae, resolution=%(size)d, max_images=24)
lab
"""
MODELS = {
    "bundled": "vae = None",
    "conv": "vae = AutoencoderVAE(block_out_channels=(16, 32, 32), norm_num_groups=8, sample_size=%(size)d, "
    "mid_block_add_attention=False)",
}
MEASURE = """async ([selector, value]) => {
  const input = document.querySelector(selector);
  const prototype = CanvasRenderingContext2D.prototype;
  const own = { putImageData: prototype.putImageData, drawImage: prototype.drawImage };
  return await new Promise((resolve) => {
    const begin = performance.now();
    for (const name of Object.keys(own)) {
      prototype[name] = function (...args) {
        own[name].apply(this, args);
        Object.assign(prototype, own);
        resolve(performance.now() - begin);
      };
    }
    input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}"""


def measure(browser: Browser, events: int) -> dict[str, list[float]]:
    """Milliseconds of each event, of the floor and of the lab in turn."""
    times: dict[str, list[float]] = {"floor": [], "lab": []}
    for i in range(events + 10):
        for name, selector in (("floor", ".floor"), ("lab", ".latent-lab input[data-axis]")):
            value = (i * 37) % 100 if name == "floor" else ((i * 37) % 100) / 50 - 1
            taken = browser.page.evaluate(MEASURE, [selector, value])
            browser.page.wait_for_timeout(60 + (i * 13) % 40)
            if i >= 10:
                times[name].append(taken)
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=120)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256])
    options = parser.parse_args()
    for size in options.sizes:
        for kind, model in MODELS.items():
            if kind == "bundled" and size != 64:
                continue
            with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
                home, notebooks = Path(folder) / "home", Path(folder) / "notebooks"
                home.mkdir()
                notebooks.mkdir()
                cells = [FLOOR % {"size": size}, LAB % {"size": size, "model": model % {"size": size}}]
                write_notebook(notebooks / "latency.ipynb", cells)
                with notebook_server(notebooks, home) as server:
                    browser = Browser(playwright, Path(folder) / "profile")
                    browser.open(server, "latency.ipynb")
                    browser.run_all()
                    browser.page.wait_for_selector(".latent-lab input[data-axis]", timeout=60_000)
                    browser.page.wait_for_timeout(5000)
                    times = measure(browser, options.events)
                    decode = browser.python("print(f'{1000 * lab._session.codec.decode_seconds:.1f}')").strip()
                    browser.close()
            print(f"{size}x{size}, {kind} model, one decode {decode} ms, {options.events} events each:")
            for name, values in times.items():
                p50, p95 = statistics.median(values), statistics.quantiles(values, n=20)[-1]
                print(f"  {name:<6} p50 {p50:6.1f}  p95 {p95:6.1f} ms")


if __name__ == "__main__":
    main()
