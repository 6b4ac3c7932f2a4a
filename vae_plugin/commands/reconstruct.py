"""Encode and decode image files, and write each beside its reconstruction."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from .. import pictures
from ..datasets import ImageReader
from ..datasets.rasters import unscaled
from ..datasets.transforms import bands_to_show, to_pil
from ..datasets.writing import ending_like, write_values
from ..errors import NotFiniteError, UserError
from ..files import make_folder
from ..metrics import psnr
from ..options import option, parse
from ..training.settings.opening import checked_range, max_image_pixels, value_range
from .source import ModelSource


@dataclass
class ReconstructOptions(ModelSource):
    """Options of `vae-plugin reconstruct`."""

    images: tuple[str, ...] = option(
        (),
        "Image files.",
        path=True,
        positional="image",
        required="no image given: name one or more files after the model.",
    )
    output_dir: str = option(
        "reconstructions",
        "Folder for NAME-reconstruction.png, which shows the original and the reconstruction (of more than 4 bands the "
        "first three as RGB, of 2 the first). Of more than 8 bits or other bands, NAME-reconstruction.tif (.npy of "
        "arrays) keeps the values.",
        path=True,
    )
    value_range: tuple[float, ...] | None = value_range()
    max_image_pixels: int = max_image_pixels()


@torch.no_grad()
def run(argv: Sequence[str] | None, prog: str) -> list[Path]:
    """Parse the options, encode and decode each image at its own size, and write the pairs."""
    options = parse(ReconstructOptions, argv, prog=prog, description=__doc__)
    adapter = options.open()
    if adapter.only_image_size is not None:
        height, width = adapter.only_image_size
        raise UserError(f"this model takes images of {height} x {width} pixels only: use evaluate, which crops them.")
    make_folder(Path(options.output_dir))
    given = checked_range(options.value_range) or adapter.value_range
    reader = ImageReader(max_pixels=options.max_image_pixels, value_range=given)
    written: list[Path] = []
    inputs = {os.path.realpath(name) for name in options.images}
    for name, path in _output_paths(options).items():
        x = reader.tensor(name, adapter.in_channels)[None]
        height, width = x.shape[-2:]
        adapter.check_image_size(height, width, name)
        reconstruction = adapter.reconstruct(x)
        if not reconstruction.isfinite().all():
            raise NotFiniteError(f"the reconstruction of {name}")
        pair = torch.cat([x, reconstruction], dim=3)[0]
        bands = bands_to_show(len(pair))
        pictures.save_png(to_pil(pair if bands is None else pair[list(bands)]), path)
        written.append(path)
        if (raster := reader.raster(name, adapter.in_channels)) is not None:
            values = reconstruction[0].float().cpu().permute(1, 2, 0).numpy()
            values = unscaled(values, raster.known_range(given), raster.bands.dtype)
            written.append(write_values(values, _values_path(path, name, inputs)))
        print(
            f"{' and '.join(map(str, written[-2:] if raster is not None else [path]))}  "
            f"PSNR {psnr(reconstruction, x).item():.2f} dB"
        )
    return written


def _values_path(picture: Path, name: str, inputs: set[str]) -> Path:
    """The file beside a picture for the values of a reconstruction.

    Raises:
        UserError: if it is one of the inputs.
    """
    path = picture.with_suffix(ending_like(name))
    if os.path.realpath(path) in inputs:
        raise UserError(f"{path} is one of the images, and would be overwritten: give another --output_dir.")
    return path


def _output_paths(options: ReconstructOptions) -> dict[str, Path]:
    """The file to write for each image.

    Raises:
        UserError: if two images would share one, or one is an input itself.
    """
    inputs = {os.path.realpath(name) for name in options.images}
    paths: dict[str, Path] = {}
    for name in options.images:
        path = Path(options.output_dir) / f"{Path(name).stem}-reconstruction.png"
        if path in paths.values():
            raise UserError(f"{path} would be written twice: give images with different names, or one at a time.")
        if os.path.realpath(path) in inputs:
            raise UserError(f"{path} is one of the images, and would be overwritten: give another --output_dir.")
        paths[name] = path
    return paths
