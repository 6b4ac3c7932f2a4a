"""Random access to local WebDataset shards: tar files are indexed once and read by offset."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

from .errors import DataError
from .formats import endings
from .paths import as_row, local_path, regular_file
from .rules import LATEST, DataRules

_REFERENCE = re.compile(r"(?s)(.+\.(?i:tar))::(\d+)::(\d+)::(.*)")


def index_shards(shards: Sequence[Path], image_column: str | None, rules: DataRules = LATEST) -> list[str]:
    """List the images of some tar files in order, as references for `read_member`.

    Args:
        shards: uncompressed tar files in which a sample is a few files that share a name up to its first dot.
        image_column: file name extension of the images, such as "jpg" or "input.png". Defaults to the only one.
        rules: by which files become images.

    Raises:
        DataError: if a shard cannot be read, holds no image, or several extensions are possible.
    """
    accepted = endings(rules)
    found: dict[str, list[str]] = {}
    for shard in shards:
        try:
            with tarfile.open(regular_file(shard), "r:") as archive:
                for member in archive:
                    name = Path(member.name).name
                    if rules.skip_hidden_members and name.startswith("."):
                        continue
                    ending = name.partition(".")[2].lower()
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
        with open(regular_file(_path(match[1])), "rb") as file:
            file.seek(int(match[2]))
            return file.read(int(match[3]))
    except OSError as error:
        raise DataError(f"{match[4]} in {match[1]} cannot be read: {error.strerror}.") from error


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
