"""Image files and parquet files whose images tell their number by their gray value."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vae_plugin.datasets import ImageDataset
from vae_plugin.datasets.transforms import to_uint8


def encoded(gray: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (12, 10), (gray,) * 3).save(file, "PNG")
    return file.getvalue()


def write_images(root: Path, *names: str) -> None:
    """Write images whose gray value is their number, counted from 1."""
    for i, name in enumerate(names, 1):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(i))


def write_parquet(path: Path, grays: list[int], **columns: list) -> None:
    """Without the metadata of `datasets`: a struct of bytes and path, and a label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": encoded(gray), "path": f"{gray}.png"} for gray in grays]
    pq.write_table(pa.table({"image": rows, "label": list(range(len(grays))), **columns}), path)


def grays(images: ImageDataset) -> list[int]:
    return [int(to_uint8(images[i]["pixel_values"])[0, 0, 0]) for i in range(len(images))]
