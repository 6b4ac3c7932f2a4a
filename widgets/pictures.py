"""Picture files: thumbnails, downloads, and the picture that stays in a saved notebook."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

GAP = 8
MIN_SIDE = 160  # pixels; smaller pictures are enlarged, to be visible
ERROR_GAIN = 4


def pil(rgba: np.ndarray) -> Image.Image:
    """A picture (H, W, 4) as PIL image; without the alpha channel if it is opaque."""
    image = Image.fromarray(rgba)
    return image if (rgba[..., 3] < 255).any() else image.convert("RGB")


def png(rgba: np.ndarray, level: int = 6) -> bytes:
    """A picture (H, W, 4) as a PNG file."""
    buffer = io.BytesIO()
    pil(rgba).save(buffer, format="PNG", compress_level=level)
    return buffer.getvalue()


def jpeg(rgba: np.ndarray) -> bytes:
    """An opaque picture (H, W, 4) as a JPEG file, for frames that are soon replaced."""
    buffer = io.BytesIO()
    Image.fromarray(rgba[..., :3]).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def thumbnail(rgba: np.ndarray, side: int = 96) -> np.ndarray:
    """Shrink a picture (h, w, 4) to at most `side` pixels on each side."""
    image = Image.fromarray(rgba)
    if max(image.size) <= side:
        return rgba
    image.thumbnail((side, side), Image.Resampling.BOX)
    return np.asarray(image)


def still(original: np.ndarray | None, decoded: np.ndarray) -> bytes:
    """The original, the decoded picture and their difference side by side, as a PNG file."""
    pictures = [decoded]
    if original is not None and original.shape == decoded.shape:
        error = np.abs(original[..., :3].astype(np.int16) - decoded[..., :3]) * ERROR_GAIN
        gray = error.clip(0, 255).max(-1, keepdims=True).astype(np.uint8).repeat(3, -1)
        pictures = [original, decoded, np.concatenate([gray, np.full_like(gray[..., :1], 255)], -1)]
    enlarge = max(1, -(-MIN_SIDE // max(decoded.shape[:2])))
    tiles = [np.repeat(np.repeat(p, enlarge, 0), enlarge, 1) for p in pictures]
    height, width = tiles[0].shape[:2]
    words = ["original", "decoded", f"error x{ERROR_GAIN}"] if len(tiles) == 3 else ["decoded"]
    caption = 16
    sheet = Image.new("RGBA", (len(tiles) * (width + GAP) - GAP, height + caption), (0, 0, 0, 0))
    draw = ImageDraw.Draw(sheet)
    for i, (tile, word) in enumerate(zip(tiles, words, strict=True)):
        sheet.paste(Image.fromarray(tile), (i * (width + GAP), caption))
        draw.text((i * (width + GAP), 2), word, fill=(128, 128, 128, 255))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


def still_bundle(key: str, picture: bytes, words: str) -> dict[str, str]:
    """A lab's picture for a saved notebook, in every form that front ends can show without a kernel."""
    encoded = base64.b64encode(picture).decode()
    alt = html.escape(words, quote=True)
    return {
        "text/html": (
            f'<figure data-latent-lab-still="{html.escape(key, quote=True)}" style="margin:0">'
            f'<img alt="{alt}" src="data:image/png;base64,{encoded}" style="max-width:100%">'
            f"<figcaption>{alt}</figcaption></figure>"
        ),
        "image/png": encoded,
        "text/plain": words,
    }


def join(strips: Sequence[np.ndarray]) -> bytes:
    """Concatenate the bytes of pictures of one size."""
    return b"".join(np.ascontiguousarray(strip).tobytes() for strip in strips)
