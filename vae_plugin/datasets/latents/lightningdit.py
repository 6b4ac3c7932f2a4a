"""The shards that LightningDiT trains on, and other trainers that took over its data set class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import safetensors
import torch
from safetensors.torch import save_file

from ...files import replacing_file
from ..errors import DataError
from .layout import FLIP, Encoded, LatentFiles, Layout, Places, Shard, ShardWriter

STATISTICS = "latents_stats.pt"


class LightningDiTLayout(Layout):
    """Files with "latents" and "latents_flip" (N, C, h, w) and "labels" (N,), and their mean and std (1, C, 1, 1).

    As https://github.com/hustvl/LightningDiT writes them (extract_features.py) and reads them (`ImgLatentDataset`): raw
    samples, which the reader normalises by the statistics. "numbers" (N,) and the names, in the file's metadata, are
    ours.
    """

    name: ClassVar[str] = "lightningdit"
    contents: ClassVar[tuple[str, ...]] = ("samples",)
    needs_flips: ClassVar[bool] = True
    needs_integers: ClassVar[bool] = True
    needs_one_size: ClassVar[bool] = True
    patterns: ClassVar[tuple[str, ...]] = ("*-[0-9]*-of-[0-9]*.safetensors", STATISTICS)

    @contextmanager
    def writer(self, shard: Shard) -> Iterator[ShardWriter]:
        """See `Layout`."""
        writer = _Writer()
        yield writer
        if writer.images:
            images = writer.images
            tensors = {name: torch.stack([image.tensors[name] for image in images]) for name in images[0].tensors}
            tensors["labels"] = torch.tensor([0 if image.label is None else image.label for image in images])
            tensors["numbers"] = torch.tensor([image.number for image in images])
            names = "\n".join(image.name.replace("\n", "\\n") for image in images)
            with replacing_file(shard.path(".safetensors")) as partial:
                save_file(tensors, partial, {"names": names})

    def read(self, folder: Path, manifest: Mapping[str, Any]) -> LatentFiles:
        """See `Layout`."""
        return _Files([file for file in self.files(folder) if file.name != STATISTICS])

    def finish(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        """Write the statistics as the trainer reads them."""
        values = {name: torch.tensor(manifest["statistics"][name]).view(1, -1, 1, 1) for name in ("mean", "std")}
        with replacing_file(folder / STATISTICS) as partial:
            torch.save(values, partial)


class _Writer:
    def __init__(self) -> None:
        self.images: list[Encoded] = []

    def add(self, images: Sequence[Encoded]) -> None:
        for image in images:
            if image.tensors["latents"].ndim != 3:
                raise DataError(
                    "LightningDiT's files hold latents (C, h, w), and this model's are vectors: give another --format."
                )
        self.images += images


class _Files:
    def __init__(self, files: list[Path]) -> None:
        self._facts = [_facts(file) for file in files]
        self._places = Places(files, [len(numbers) for numbers, _, _ in self._facts])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Encoded:
        number, position = self._places.find(index)
        numbers, names, labels = self._facts[number]
        with safetensors.safe_open(self._places.files[number], framework="pt") as opened:
            tensors = {name: opened.get_slice(name)[position] for name in ("latents", "latents" + FLIP)}
        return Encoded(numbers[position], names[position], labels[position], tensors)


def _facts(file: Path) -> tuple[list[int], list[str], list[int]]:
    """Numbers, names and labels of the images in a file."""
    with safetensors.safe_open(file, framework="pt") as opened:
        names = opened.metadata()["names"].split("\n")
        return opened.get_tensor("numbers").tolist(), names, opened.get_tensor("labels").tolist()
