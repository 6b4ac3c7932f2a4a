"""A tiny VAE, and photographs for it to encode."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vae_plugin import AutoencoderVAE
from vae_plugin.cli import main

OWN = {"in_channels": 3, "block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": 16, "latent_channels": 2}

COUNT, DAMAGED = 11, 4  # images, and the number of the one that cannot be read


def tiny_vae(**changes: Any) -> AutoencoderVAE:
    """A VAE with a compression of 2, always the same."""
    torch.manual_seed(0)
    return AutoencoderVAE(**{**OWN, "sigma": 0.3, **changes})


def photograph(paths: Iterable[Path]) -> None:
    """Write noise of 24 x 16 pixels."""
    noise = np.random.default_rng(0)
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(path)


def run(model: Path, data: Path, output: Path, *words: str) -> int:
    """`vae-plugin encode`."""
    return main(["encode", str(model), "--data_dir", str(data), "--output", str(output), *words])


def contents(folder: Path) -> dict[str, bytes]:
    """Everything that lies in a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
