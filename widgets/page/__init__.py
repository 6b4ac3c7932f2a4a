"""A lab as one HTML file, whose decoder runs in the browser."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from vae_plugin.errors import UserError
from vae_plugin.files import write_bytes
from vae_plugin.widgets import frontend
from vae_plugin.widgets.page.contents import page_contents
from vae_plugin.widgets.page.decoder import check_cost, decoder_file
from vae_plugin.widgets.page.runtime import LICENSE, Runtime, find_runtime
from vae_plugin.widgets.session import Session

TEMPLATE = Path(__file__).resolve().parent / "page.html"
MOST_BYTES = 64_000_000  # of a page; larger ones open slowly, and no static Space shows them well


def write_page(
    session: Session, traits: Mapping[str, Any], path: Path, title: str, onnxruntime_web: Path | None = None
) -> int:
    """Write a lab as a page that needs no kernel and no network.

    Args:
        session: of the lab, whose images are encoded.
        traits: its synced state, by name.
        path: the HTML file.
        title: of the page.
        onnxruntime_web: folder or tarball of the npm package, see `find_runtime`.

    Returns:
        The size of the file in bytes.

    Raises:
        UserError: if the decoder is too large for a browser or cannot be exported, or the runtime is not to be had.
    """
    check_cost(session.codec, session.state.latent)
    runtime = find_runtime(onnxruntime_web)
    model = decoder_file(session.codec, session.state.latent)
    page = _page(page_contents(session, traits), title, model, runtime).encode()
    if len(page) > MOST_BYTES:
        raise UserError(
            f"the page would have {len(page) / 1e6:.0f} MB, and {MOST_BYTES / 1e6:.0f} at most open well: make the lab "
            f"with fewer images, now {len(session.images)} (max_images), or smaller ones (resolution)."
        )
    write_bytes(path, page)
    return len(page)


def _page(contents: dict[str, Any], title: str, model: bytes, runtime: Runtime) -> str:
    parts = {
        "title": html.escape(title),
        "style": frontend.style(),
        "script": frontend.script("local/start.js"),
        "data": json_for_html(contents),
        "worker": packed((runtime.classic_script + frontend.source("local/worker.js")).encode()),
        "wasm": packed(runtime.wasm),
        "decoder": packed(model),
        "license": html.escape(LICENSE),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _template())


def packed(data: bytes) -> str:
    """A file as it stands in the page: compressed, in base64."""
    return base64.b64encode(gzip.compress(data, mtime=0)).decode()


def json_for_html(data: Any) -> str:
    """JSON that can stand in an element `script`, bytes as {"base64": ...}."""

    def readable(value: Any) -> Any:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return {"base64": base64.b64encode(value).decode()}
        raise TypeError(f"{type(value).__name__} is no JSON")

    text = json.dumps(data, ensure_ascii=True, allow_nan=False, default=readable)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _template() -> str:
    return TEMPLATE.read_text(encoding="utf-8")
