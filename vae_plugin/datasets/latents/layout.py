"""What the layouts of latents on a disk have in common."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from ..errors import DataError
from ..labels import Label

MANIFEST = "latents.json"  # in every folder of latents
FLIP = "_flip"  # after the name of a tensor, of the image that was mirrored left to right


@dataclass
class Encoded:
    """An image, encoded.

    Attributes:
        number: of the image in its data set.
        name: of the image: that of its file, of a member of an archive, or of a file and a row.
        label: a class or a caption.
        tensors: "mean" and "logvar", or "latents", or "indices"; with `FLIP` those of the mirrored image.
        image_size: width and height of the image file, for layouts that need it.
        view_size: width and height of what was encoded of it.
    """

    number: int
    name: str
    label: Label
    tensors: dict[str, torch.Tensor]
    image_size: tuple[int, int] | None = None
    view_size: tuple[int, int] = (0, 0)


class ShardWriter(Protocol):
    """Takes the images of a shard in order; what it has written is there, whole, when its block has ended."""

    def add(self, images: Sequence[Encoded]) -> None:
        """Take the next images."""


@dataclass(frozen=True)
class Shard:
    """Where the images of a shard go.

    Attributes:
        folder: of the latents.
        split: of the data set, a word for names of files.
        number: of the shard.
        count: of all shards.
        integers: whether labels are integers.
    """

    folder: Path
    split: str
    number: int
    count: int
    integers: bool = True

    def path(self, ending: str) -> Path:
        """Name of the file as the Hub writes those of shards."""
        return self.folder / f"{self.split}-{self.number:05d}-of-{self.count:05d}{ending}"


class LatentFiles(Protocol):
    """The images in a folder of latents, by position."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int) -> Encoded:
        """One of them, with the tensors as they are stored."""


class Layout:
    """How latents lie on a disk: both what writes them and what reads them.

    Attributes:
        name: of the layout.
        contents: what it can hold.
        needs_flips: whether its readers expect latents of mirrored images.
        needs_image_files: whether its files stand for image files of a folder.
        needs_integers: whether labels must be integers.
        needs_float32: whether its readers expect this dtype.
        needs_one_size: whether all latents must have one shape.
        patterns: of the names of its files, for `--overwrite`.
        dtypes: that it can hold.
    """

    name: ClassVar[str]
    contents: ClassVar[tuple[str, ...]] = ("posterior", "samples", "indices")
    needs_flips: ClassVar[bool] = False
    needs_image_files: ClassVar[bool] = False
    needs_integers: ClassVar[bool] = False
    needs_one_size: ClassVar[bool] = False
    patterns: ClassVar[tuple[str, ...]] = ()
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "bfloat16")

    @contextmanager
    def writer(self, shard: Shard) -> Iterator[ShardWriter]:
        """What writes a shard; the files that it opens are whole and renamed when its block ends."""
        with ExitStack() as stack:
            yield self.open_writer(shard, stack)

    def open_writer(self, shard: Shard, stack: ExitStack) -> ShardWriter:
        """As `writer`, with the stack of what ends with its block."""
        raise NotImplementedError

    def read(self, folder: Path, manifest: Mapping[str, Any]) -> LatentFiles:
        """The images of a folder."""
        return self.open_files(list(self.files(folder)))

    def open_files(self, files: list[Path]) -> LatentFiles:
        """The images in some files of the layout."""
        raise NotImplementedError

    def finish(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        """Write what readers of the layout expect beside its shards."""

    def files(self, folder: Path, more: str = "") -> Iterator[Path]:
        """The files of the layout that are there, sorted; with `more` behind their names."""
        for pattern in self.patterns:
            yield from sorted(folder.glob(pattern + more))


@dataclass
class Places:
    """Where images lie in files that hold several.

    Attributes:
        files: in order.
        lengths: how many images each has.
    """

    files: list[Path]
    lengths: list[int]
    ends: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.ends = []
        total = 0
        for length in self.lengths:
            total += length
            self.ends.append(total)

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def find(self, index: int) -> tuple[int, int]:
        """Number of the file, and position in it."""
        file = bisect_right(self.ends, index)
        return file, index - (self.ends[file] - self.lengths[file])


def tensors_of(found: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of what a file holds, the tensors of an image."""
    names = ("mean", "logvar", "latents", "indices")
    kept = {name: value for name, value in found.items() if name.removesuffix(FLIP) in names}
    if not kept:
        raise DataError(f"a file of latents holds {', '.join(found) or 'nothing'}: it was not written by encode.")
    return kept
