"""WebDataset: tar files with a .safetensors, a .json and a label for each image."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import safetensors.torch

from ...files import replacing_file
from ..labels import Label
from ..tars import Member, read_archive
from .layout import Encoded, LatentFiles, Layout, Shard, ShardWriter, tensors_of

NO_CLASS = -1  # every sample has the same members, which `datasets` asks for


class TarLayout(Layout):
    """Samples NUMBER.safetensors, NUMBER.json ("name", "number") and NUMBER.cls (integers) or NUMBER.txt (captions)."""

    name: ClassVar[str] = "webdataset"
    patterns: ClassVar[tuple[str, ...]] = ("*-[0-9]*-of-[0-9]*.tar",)

    def open_writer(self, shard: Shard, stack: ExitStack) -> ShardWriter:
        """See `Layout`."""
        return _Writer(shard, stack)

    def open_files(self, files: list[Path]) -> LatentFiles:
        """See `Layout`."""
        return _Files(files)


class _Writer:
    def __init__(self, shard: Shard, stack: ExitStack) -> None:
        self._shard, self._stack = shard, stack
        self._tar: tarfile.TarFile | None = None

    def add(self, images: Sequence[Encoded]) -> None:
        if images and self._tar is None:
            partial = self._stack.enter_context(replacing_file(self._shard.path(".tar")))
            tar = tarfile.TarFile(partial, "w", format=tarfile.USTAR_FORMAT)
            self._tar = self._stack.enter_context(tar)
        for image in images:
            key = f"{image.number:09d}"
            tensors = {name: value.contiguous() for name, value in image.tensors.items()}
            self._file(f"{key}.safetensors", safetensors.torch.save(tensors))
            self._file(f"{key}.json", json.dumps({"name": image.name, "number": image.number}).encode())
            if self._shard.integers:
                self._file(f"{key}.cls", str(NO_CLASS if image.label is None else image.label).encode())
            else:
                self._file(f"{key}.txt", str("" if image.label is None else image.label).encode())

    def _file(self, name: str, content: bytes) -> None:
        assert self._tar is not None
        info = tarfile.TarInfo(name)  # without a time or an owner: the same images give the same bytes
        info.size, info.mode = len(content), 0o644
        self._tar.addfile(info, io.BytesIO(content))


class _Files:
    def __init__(self, files: list[Path]) -> None:
        self._files = files
        self._samples: list[tuple[int, dict[str, Member]]] = []
        for number, file in enumerate(files):
            with open(file, "rb") as opened:
                for member in read_archive(opened):
                    if not isinstance(member, Member):
                        continue
                    ending = member.name.partition(".")[2]
                    if ending == "safetensors":  # the first of a sample
                        self._samples.append((number, {}))
                    self._samples[-1][1][ending] = member
        self._samples.sort(key=lambda sample: sample[1]["safetensors"].name)  # NUMBER: images come bucket by bucket

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Encoded:
        number, members = self._samples[index]
        with open(self._files[number], "rb") as file:
            content = {}
            for ending, member in members.items():
                file.seek(member.offset)
                content[ending] = file.read(member.size)
        facts = json.loads(content["json"])
        tensors = tensors_of(safetensors.torch.load(content["safetensors"]))
        return Encoded(facts["number"], facts["name"], _label(content), tensors)


def _label(content: Mapping[str, bytes]) -> Label:
    if "cls" in content:
        number = int(content["cls"])
        return None if number == NO_CLASS else number
    return content["txt"].decode() or None if "txt" in content else None
