"""A page to compare models by eye: one HTML file, which opens in any browser and asks no other machine for anything."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..datasets.transforms import bands_to_show, to_uint8
from ..files import replacing_file
from .reconstruction import psnr, ssim

FOLDER = Path(__file__).resolve().parent / "page"
SCRIPTS = ("pixels.js", "view.js", "page.js")  # of one scope, in this order
DIGITS = 6


@dataclass(frozen=True)
class Compared:
    """An image of the page.

    Attributes:
        name: of the image.
        original: (C, H, W) in [-1, 1].
        reconstructions: of it, of the same shape, one by each model.
        tags: what is special about it, such as "worst of A".
    """

    name: str
    original: torch.Tensor
    reconstructions: Sequence[torch.Tensor]
    tags: Sequence[str] = ()


def comparison_page(
    images: Iterable[Compared], models: Mapping[str, Mapping[str, float]], num_images: int, title: str = "Comparison"
) -> str:
    """The HTML of a page with a wipe between an image and its reconstructions, their differences, and a zoom.

    Its pixels are those of the 8-bit images, as PNG. Of images with 2 or more than 4 channels some are shown, see
    `bands_to_show`; transparent ones are shown on white.

    Args:
        images: to be shown, in this order; at least one.
        models: by the name of each, in the order of the reconstructions, "psnr" and "ssim" over all that were measured.
        num_images: how many were measured.
        title: of the page.

    Raises:
        ValueError: if there is no image, or one has another number of reconstructions than there are models.
    """
    shown = [_image(image, len(models)) for image in images]
    if not shown:
        raise ValueError("got no image: a page needs one at least.")
    data = {
        "models": [{"name": name, "psnr": of["psnr"], "ssim": of["ssim"]} for name, of in models.items()],
        "num_images": num_images,
        "images": shown,
    }
    parts = {
        "title": html.escape(title),
        "style": _file("page.css"),
        "script": "\n".join(_file(name) for name in SCRIPTS),
        "data": _json_for_html(data),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _file("page.html"))


def write_page(path: Path, page: str) -> int:
    """Write a page through `files.replacing_file`, and return its size in bytes."""
    data = page.encode()
    with replacing_file(path) as partial:
        partial.write_bytes(data)
    return len(data)


def _image(image: Compared, models: int) -> dict[str, Any]:
    if len(image.reconstructions) != models:
        raise ValueError(f"got {len(image.reconstructions)} reconstruction(s) of {image.name} for {models} model(s).")
    original = image.original[None].float().cpu()
    decoded = [each[None].float().cpu() for each in image.reconstructions]
    return {
        "name": image.name,
        "tags": list(image.tags),
        "width": original.shape[-1],
        "height": original.shape[-2],
        "pictures": [_data_url(each[0]) for each in (original, *decoded)],
        "psnr": [round(psnr(each, original).item(), DIGITS) for each in decoded],
        "ssim": [round(ssim(each, original).item(), DIGITS) for each in decoded],
    }


def _data_url(image: torch.Tensor) -> str:
    pixels = to_uint8(image)
    if (bands := bands_to_show(len(pixels))) is not None:
        pixels = pixels[list(bands)]
    array = pixels.permute(1, 2, 0).numpy()
    picture = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    if picture.mode == "RGBA":  # a browser's canvas loses colours that can hardly be seen
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    written = io.BytesIO()
    picture.save(written, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"


def _json_for_html(data: Any) -> str:
    """JSON that can stand in an element `script`, whatever its strings are."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8").rstrip("\n")
