"""Encode and decode image files, and write each beside its reconstruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError

from .. import pictures
from ..datasets.transforms import image_to_tensor, to_pil
from ..errors import UserError
from ..files import make_folder
from ..metrics import psnr
from ..options import option, parse
from .source import ModelSource


@dataclass
class ReconstructOptions(ModelSource):
    """Options of `vae-plugin reconstruct`."""

    images: tuple[str, ...] = option(
        (), "Image files.", positional="image", required="no image given: name one or more files after the model."
    )
    output_dir: str = option("reconstructions", "Folder of NAME-reconstruction.png, original and reconstruction.")


@torch.no_grad()
def run(argv: Sequence[str] | None, prog: str) -> list[Path]:
    """Parse the options, encode and decode each image at its own size, write the pairs."""
    options = parse(ReconstructOptions, argv, prog=prog, description=__doc__)
    adapter = options.open()
    make_folder(Path(options.output_dir))
    paths = [Path(options.output_dir) / f"{Path(name).stem}-reconstruction.png" for name in options.images]
    for i, path in enumerate(paths):
        if path in paths[:i] or path.resolve() in [Path(name).resolve() for name in options.images]:
            raise UserError(f"{path} would be written twice, or over an image given: rename one, or do one at a time.")
    written = []
    for name, path in zip(options.images, paths, strict=True):
        try:
            with Image.open(name) as image:
                x = image_to_tensor(image, adapter.in_channels)[None]
        except (OSError, UnidentifiedImageError) as error:
            raise UserError(f"{name} cannot be read as an image: {error}") from error
        if adapter.only_image_size is not None:
            raise UserError("an mlp model takes images of one size only: use evaluate, which crops them.")
        reconstruction = adapter.reconstruct(x)
        pair = torch.cat([x, reconstruction], dim=3)[0]
        pictures.save_png(to_pil(pair), path)
        print(f"{path}  PSNR {psnr(reconstruction, x).item():.2f} dB")
        written.append(path)
    return written
