"""Latents that `vae-plugin encode` wrote, as a data set of torch."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from ...errors import UserError
from ...texts import read_json_object
from ..errors import DataError
from .layout import FLIP, MANIFEST
from .layouts import LAYOUTS


class LatentDataset(Dataset):
    """The latents in a folder, of any layout, in the order of the images.

    Item i is a dict with "latents" (C, h, w) or (C,), or of a discrete model "indices" (h, w) in int64; "name",
    "number" of the image in its data set, and "label", an integer, a caption or None. Of stored means and variances
    "mean" and "logvar" are there too, and "latents" is a sample of them where there is a generator, and the mean
    otherwise. What was stored of mirrored images has names that end in "_flip". Latents are as they were stored: raw,
    as the model's `encode` gives them, unless `manifest["scaled"]`.

    Args:
        folder: that `vae-plugin encode --output` names.
        generator: of the samples; every access draws anew.

    Attributes:
        manifest: content of its latents.json.

    Raises:
        DataError: if there are no latents, or not yet all of them.
    """

    def __init__(self, folder: str | Path, generator: torch.Generator | None = None) -> None:
        folder = Path(folder).expanduser()
        self.manifest = read_manifest(folder)
        if not self.manifest.get("complete"):
            raise DataError(f"the latents in {folder} are not all there yet: give the command that wrote them again.")
        layout = LAYOUTS.get(str(self.manifest.get("format")))
        if layout is None:
            raise DataError(
                f"{folder / MANIFEST} names the format {self.manifest.get('format')!r}, and this vae-plugin knows "
                f"{', '.join(LAYOUTS)}."
            )
        self._files, self._generator = layout.read(folder, self.manifest), generator
        if len(self._files) != self.manifest.get("images"):
            raise DataError(
                f"{folder} has the latents of {len(self._files)} images, and its {MANIFEST} tells of "
                f"{self.manifest.get('images')}: copy all of its files, or encode again with --overwrite."
            )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        found = self._files[range(len(self))[operator.index(index)]]
        tensors = {name: _plain(value) for name, value in found.tensors.items()}
        for flip in ("", FLIP):
            if "mean" + flip in tensors:
                mean, logvar = tensors["mean" + flip], tensors["logvar" + flip]
                if self._generator is not None:
                    mean = mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=self._generator)
                tensors["latents" + flip] = mean
        return {**tensors, "name": found.name, "number": found.number, "label": found.label}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The content of latents.json.

    Raises:
        DataError: if there is none, or none that can be read.
    """
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{folder} has no {MANIFEST}: give a folder that `vae-plugin encode --output` wrote.")
    try:
        return read_json_object(folder / MANIFEST)
    except UserError as error:
        raise DataError(str(error)) from error


def _plain(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.is_floating_point() else value.long()
