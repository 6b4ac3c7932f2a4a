"""Writing images in a format that keeps their values: more than 8 bits, floats, any number of bands."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..files import replacing_file
from .arrays import ARRAY_ENDINGS


def ending_like(name: str | Path) -> str:
    """The ending of a file that keeps what another one holds: .npy of arrays, .tif of all others."""
    return ".npy" if Path(name).suffix.lower() in ARRAY_ENDINGS else ".tif"


def write_values(values: np.ndarray, path: Path) -> Path:
    """Write an image (H, W, C) through `files.replacing_file`: .npy or .tif, gray without an axis of channels."""
    gray = values[..., 0] if values.shape[-1] == 1 else values
    with replacing_file(path) as partial:
        if path.suffix == ".npy":
            with open(partial, "wb") as file:
                np.save(file, gray, allow_pickle=False)
        else:
            import tifffile  # slow to import

            stored = gray.astype(np.uint8) if gray.dtype.kind == "b" else gray
            colours = values.shape[-1] in (3, 4) and values.dtype.kind == "u"
            tifffile.imwrite(
                partial,
                stored,
                photometric="rgb" if colours else "minisblack",
                planarconfig="contig" if values.shape[-1] > 1 else None,
                metadata=None,
            )
    return path
