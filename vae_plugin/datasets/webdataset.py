"""Random access to local WebDataset shards: tar files are indexed once and read by offset."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ..notices import say_once
from .errors import DataError
from .formats import HEIC_ENDINGS, HEIC_EXTRA, array_endings, endings
from .paths import as_row, local_path, regular_file
from .rules import LATEST, DataRules
from .tars import Damage, Member, read_archive

_REFERENCE = re.compile(r"(?s)(.+\.(?i:tar))::(\d+)::(\d+)::(.*)")
LARGEST = 1 << 31  # bytes of an image: a sparse archive of no size may claim any


@dataclass
class Selection:
    """Which files of an archive are the images of its samples: by one rule, whether they are streamed or not.

    A sample is the files that share a name up to its first dot. Hidden files, such as those that macOS adds, belong to
    none.

    Args:
        image_column: file name extension of the images, such as "jpg", "input.png" or "npy". By default a sample has
            one image; arrays are taken only if they are named.
        rules: by which files become images.
    """

    image_column: str | None
    rules: DataRules
    found: dict[str, int] = field(default_factory=dict)  # extension -> number of images
    arrays: dict[str, int] = field(default_factory=dict)  # likewise of .npy and .npz, which are taken if they are named
    _samples: set[tuple[object, str]] = field(default_factory=set)

    def takes(self, member: Member, shard: object) -> bool:
        """Whether this is the image of a sample.

        Raises:
            DataError: if the sample has another one.
        """
        folder, _, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        ending = ending.lower()
        last = f".{ending.rpartition('.')[2]}"
        if stem and last in HEIC_ENDINGS - endings(self.rules):
            say_once("HEIC", f"HEIC images such as {member.name} in {shard} are left out: to read them, {HEIC_EXTRA}.")
        if stem and last in array_endings(self.rules):  # beside images they hold other things, such as embeddings
            self.arrays[ending] = self.arrays.get(ending, 0) + 1
            return self.image_column is not None and ending == self.image_column.lower()
        if not stem or last not in endings(self.rules):
            return False
        self.found[ending] = self.found.get(ending, 0) + 1
        if self.image_column is not None:
            return ending == self.image_column.lower()
        sample = (shard, f"{folder}/{stem}")
        if sample in self._samples:
            raise DataError(
                f"{member.name} in {shard} is not the only image of its sample, the files that share a name up to its "
                f"first dot; there are images with the extensions {', '.join(sorted(self.found))}: choose one with "
                "image_column."
            )
        self._samples.add(sample)
        return True

    def check_found(self, where: object) -> None:
        """Raise a DataError that no image was taken."""
        known = sorted({**self.found, **self.arrays})
        if self.image_column is not None:
            others = f"give one of {', '.join(known)}" if known else "they hold no images"
            raise DataError(
                f"image_column is {self.image_column!r}, which no image in the tar files of {where} has: {others}."
            )
        if known:
            raise DataError(
                f"the tar files in {where} hold no images but arrays ({', '.join(known)}): if these are the images, "
                "name them with image_column."
            )
        raise DataError(f"the tar files in {where} hold no images: give tar files with images.")


def read_shard(file: IO[bytes], shard: object, selection: Selection) -> Iterator[Member | Damage]:
    """The images of a shard in order, and what is damaged between them; see `read_archive`.

    Raises:
        tarfile.TarError: if it is no archive.
        DataError: if a sample has several images.
    """
    for member in read_archive(file):
        if isinstance(member, Damage):
            yield member
        elif selection.takes(member, shard):
            too_large = Damage(f"{member.name} in it has {member.size} bytes, which no image has")
            yield member if member.size <= LARGEST else too_large


def index_shards(
    shards: Sequence[Path], image_column: str | None, rules: DataRules = LATEST
) -> tuple[list[str], dict[str, Damage]]:
    """List the images of some tar files in order, as references for `read_member`, and what is damaged of them.

    Args:
        shards: uncompressed tar files in which a sample is a few files that share a name up to its first dot.
        image_column: see `Selection`.
        rules: by which files become images.

    Returns:
        The references; and path -> what is damaged, of each shard that is.

    Raises:
        DataError: if a shard cannot be read, none holds an image, or a sample has several.
    """
    if not rules.read_whole_archives:
        return _index_of_0_1(shards, image_column, rules), {}
    selection = Selection(image_column, rules)
    references: list[str] = []
    damaged: dict[str, Damage] = {}
    for shard in shards:
        try:
            with open(regular_file(shard), "rb") as file:
                for found in read_shard(file, shard, selection):
                    if isinstance(found, Damage):
                        damaged.setdefault(str(shard), found)
                    else:
                        references.append(f"{as_row(shard)}::{found.offset}::{found.size}::{found.name}")
        except (tarfile.TarError, OSError) as error:
            damaged[str(shard)] = Damage(f"it cannot be read as an uncompressed tar file ({error})")
    if not references:
        for name, damage in damaged.items():
            raise DataError(f"{name} holds no image that can be read: {damage.reason}.")
        selection.check_found(shards[0].parent)
    return references, damaged


def _index_of_0_1(shards: Sequence[Path], image_column: str | None, rules: DataRules) -> list[str]:
    """What release 0.1 found in some tar files: less, where one is damaged, and in another order."""
    accepted = endings(rules)
    found: dict[str, list[str]] = {}
    for shard in shards:
        try:
            with tarfile.open(regular_file(shard), "r:") as archive:
                for member in archive:
                    ending = Path(member.name).name.partition(".")[2].lower()
                    if member.isfile() and f".{ending.rpartition('.')[2]}" in accepted:
                        reference = f"{as_row(shard)}::{member.offset_data}::{member.size}::{_utf8(member.name)}"
                        found.setdefault(ending, []).append(reference)
        except (tarfile.TarError, OSError) as error:
            raise DataError(f"{shard} cannot be read as an uncompressed tar file: {error}.") from error
    folder = shards[0].parent
    if image_column is not None:
        if image_column not in found:
            others = f"give one of {', '.join(sorted(found))}" if found else "they hold no images"
            raise DataError(
                f"image_column is {image_column!r}, which no image in the tar files of {folder} has: {others}."
            )
        return found[image_column]
    if not found:
        raise DataError(f"the tar files in {folder} hold no images: give tar files with images.")
    references = sorted(reference for references in found.values() for reference in references)
    if len({_sample(reference) for reference in references}) < len(references):
        raise DataError(
            f"samples in {folder} have several images, with the extensions {', '.join(sorted(found))}: choose one with "
            "image_column."
        )
    return next(iter(found.values())) if len(found) == 1 else references


def read_member(reference: str) -> bytes | None:
    """Read the bytes of a reference made by `index_shards`; None if the string is something else.

    Raises:
        DataError: if the bytes cannot be read.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return None
    try:
        with open_shard(match[1]) as file:
            file.seek(int(match[2]))
            return file.read(int(match[3]))
    except OSError as error:
        raise DataError(f"{match[4]} in {match[1]} cannot be read: {error.strerror}.") from error


def is_reference(text: object) -> bool:
    """Whether a text is one that `index_shards` made."""
    return isinstance(text, str) and _REFERENCE.fullmatch(text) is not None


def open_shard(shard: str) -> IO[bytes]:
    """The archive that a reference refers to, by what `shard_of` gives."""
    return open(regular_file(_path(shard)), "rb")


def shard_of(reference: str) -> str:
    """The path of the archive that a reference refers to."""
    match = _REFERENCE.fullmatch(reference)
    assert match is not None  # made by `index_shards`
    return match[1]


def member_of(reference: str) -> str:
    """The name in its archive of what a reference refers to."""
    match = _REFERENCE.fullmatch(reference)
    assert match is not None  # made by `index_shards`
    return match[4]


def size_of(reference: str) -> int | None:
    """Number of bytes of what a reference refers to; None if the string is something else."""
    match = _REFERENCE.fullmatch(reference)
    return None if match is None else int(match[3])


def _path(shard: str) -> str:
    return local_path(shard) or shard


def _utf8(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _sample(reference: str) -> tuple[str, str]:
    match = _REFERENCE.fullmatch(reference)
    assert match is not None  # made by `index_shards`
    shard, _, _, member = match.groups()
    folder, _, name = member.rpartition("/")
    return shard, f"{folder}/{name.partition('.')[0]}"
