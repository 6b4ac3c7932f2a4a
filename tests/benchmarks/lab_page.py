"""A lab as a page: its size, and the time from a slider's event to new pixels, in headless Chromium without a network.

    python tests/benchmarks/lab_page.py [--events 60] [PAGE.html ...]

needs the `test` extra and Chromium. Without pages it writes two: of the bundled circles, and of an untrained VAE of
256 pixels with 24 images. Each event comes after the full picture of the one before. Of a slow decoder a small picture
comes first; "full" is the time to the one at full size, with 120 ms of quiet. Least and median in ms.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from support.rig import Browser
from vae_plugin import AutoencoderVAE
from vae_plugin.widgets import LatentLab

MEASURE = """async ([value]) => {
  const input = document.querySelector(".latent-lab input[data-axis]");
  const canvas = document.querySelectorAll(".ll-stage canvas")[1];
  const own = CanvasRenderingContext2D.prototype.putImageData;
  const begin = performance.now();
  let first = null;
  const full = await new Promise((resolve) => {
    CanvasRenderingContext2D.prototype.putImageData = function (...args) {
      own.apply(this, args);
      if (this.canvas !== canvas) return;
      first ??= performance.now() - begin;
      // The class that tells a small picture is set right after it was drawn.
      queueMicrotask(() => { if (!canvas.classList.contains("ll-preview")) resolve(performance.now() - begin); });
    };
    input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
  CanvasRenderingContext2D.prototype.putImageData = own;
  return [first, full];
}"""


def write_pages(folder: Path) -> list[Path]:
    """The two pages."""
    torch.manual_seed(0)
    conv = AutoencoderVAE(block_out_channels=(16, 32, 32), norm_num_groups=8, sample_size=256)
    labs = {"circles": LatentLab(), "conv-256": LatentLab(conv.eval(), max_images=24)}
    pages = []
    for name, lab in labs.items():
        pages.append(lab.export_html(folder / f"{name}.html"))
        lab.close()
    return pages


def measure(browser: Browser, path: Path, events: int) -> None:
    """Open a page, move its first slider, and print the times."""
    begin = time.perf_counter()
    browser.page.goto(path.as_uri())
    browser.page.wait_for_selector(".latent-lab input[data-axis]", state="attached")
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, opened in {time.perf_counter() - begin:.1f} s")
    browser.page.click('[data-tab="sliders"]')
    times = [browser.page.evaluate(MEASURE, [((i * 37) % 100) / 50 - 1]) for i in range(events + 5)][5:]
    for name, values in zip(("first", "full"), zip(*times, strict=True), strict=True):
        print(f"  {name:<6} least {min(values):6.1f}  median {statistics.median(values):6.1f} ms")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--events", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        pages = options.pages or write_pages(Path(folder))
        browser = Browser(playwright, Path(folder) / "profile")
        browser.context.set_offline(True)
        for path in pages:
            measure(browser, path.resolve(), options.events)
        browser.close()


if __name__ == "__main__":
    main()
