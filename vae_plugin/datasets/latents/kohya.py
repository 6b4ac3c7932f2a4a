"""The caches of latents that kohya's sd-scripts keep beside image files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
import torch

from ...files import replacing_file
from ..errors import DataError
from .layout import FLIP, Encoded, LatentFiles, Layout, Shard, ShardWriter, tensors_of

STRIDE = 8  # pixels of a position of the latents, to these trainers


class KohyaLayout(Layout):
    """A file NAME_WIDTHxHEIGHT_MODEL.npz for each image, of its latents (C, h, w), as raw samples in float32.

    As https://github.com/kohya-ss/sd-scripts writes and reads them (`LatentsCachingStrategy`): "latents",
    "latents_flipped", "original_size" and "crop_ltrb", with the size of the latents in their names ("latents_64x64")
    where the trainer caches several resolutions. Versions of it differ in that for SD and SDXL, whose files have both.
    "name", "number" and "label" are ours.

    Args:
        family: of models, as the trainer names it: sd, sdxl, sd3 or flux.
    """

    contents: ClassVar[tuple[str, ...]] = ("samples",)
    needs_image_files: ClassVar[bool] = True
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)

    def __init__(self, family: str) -> None:
        self._family = family
        self.name = f"kohya-{family}"  # type: ignore[misc]  # of each family
        self.patterns = (f"**/*_[0-9]*x[0-9]*_{family}.npz",)  # type: ignore[misc]

    def open_writer(self, shard: Shard, stack: ExitStack) -> ShardWriter:
        """See `Layout`."""
        return _Writer(shard.folder, self._family)

    def open_files(self, files: list[Path]) -> LatentFiles:
        """See `Layout`."""
        return _Files(files)


class _Writer:
    def __init__(self, folder: Path, family: str) -> None:
        self._folder, self._family = folder, family

    def add(self, images: Sequence[Encoded]) -> None:
        for image in images:
            self._write(image)

    def _write(self, image: Encoded) -> None:
        assert image.image_size is not None
        latents = image.tensors["latents"]
        if latents.ndim != 3 or (latents.shape[1] * STRIDE, latents.shape[2] * STRIDE) != image.view_size[::-1]:
            raise DataError(
                f"kohya's files hold latents (C, height / {STRIDE}, width / {STRIDE}), and those of this model are "
                f"{tuple(latents.shape)} for images of {image.view_size[0]} x {image.view_size[1]} pixels: give "
                "another --format."
            )
        width, height = image.image_size
        arrays = {"latents": latents.numpy()}
        if "latents" + FLIP in image.tensors:
            arrays["latents_flipped"] = image.tensors["latents" + FLIP].numpy()
        arrays["original_size"] = np.array([width, height])
        arrays["crop_ltrb"] = np.array(crop_ltrb(image.view_size, image.image_size))
        sized = {f"{name}_{latents.shape[1]}x{latents.shape[2]}": value for name, value in arrays.items()}
        stored = {"sd": {**arrays, **sized}, "sdxl": {**arrays, **sized}}.get(self._family, sized)
        facts = {"name": np.array(image.name), "number": np.array(image.number)}
        if image.label is not None:
            facts["label"] = np.array(image.label)
        stem = PurePosixPath(image.name).with_suffix("")
        path = self._folder / f"{stem}_{width:04d}x{height:04d}_{self._family}.npz"
        with replacing_file(path) as partial, open(partial, "wb") as file:
            np.savez(file, **stored, **facts)  # type: ignore[arg-type]


def crop_ltrb(view_size: tuple[int, int], image_size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Where the image lies when it is scaled to fit into the view, as the trainer computes what it conditions on."""
    width, height = view_size
    ratio = image_size[0] / image_size[1]
    resized = (height * ratio, height) if width / height > ratio else (width, width / ratio)
    left, top = (width - resized[0]) // 2, (height - resized[1]) // 2
    return left, top, left + resized[0], top + resized[1]


class _Files:
    def __init__(self, files: list[Path]) -> None:
        def number(file: Path) -> int:
            with np.load(file) as found:
                return int(found["number"])

        self._files = sorted(files, key=number)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Encoded:
        with np.load(self._files[index]) as found:
            tensors = {}
            for name in found.files:
                plain = name.split("_")[0] + (FLIP if "flipped" in name else "")
                if name.startswith("latents"):
                    tensors[plain] = torch.from_numpy(found[name])
            label = found["label"].item() if "label" in found.files else None
            return Encoded(int(found["number"]), str(found["name"]), label, tensors_of(tensors))
