"""Local WebDataset shards, picked from at random: tar files are indexed once and read by offset."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from .transforms import DataError

_PLACE = re.compile(r"(?s)(.+\.tar)::(\d+)::(\d+)::(.*)")


def index_shards(shards: Sequence[Path], image_column: str | None) -> list[str]:
    """Where the images of some tar files are, for `read_member`, in their order.

    Args:
        shards: tar files, not compressed, each sample a few files that share a name up to its first dot.
        image_column: the ending of the images, such as "jpg" or "input.png". Default: the only one there is.

    Raises:
        DataError: if a shard cannot be read, or several endings are of images.
    """
    endings = {ending[1:] for ending, name in Image.registered_extensions().items() if name in Image.OPEN}
    found: dict[str, list[str]] = {}
    for shard in shards:
        try:
            with tarfile.open(shard, "r:") as archive:
                for member in archive:
                    ending = Path(member.name).name.partition(".")[2].lower()
                    if member.isfile() and ending.rpartition(".")[2] in endings:
                        place = f"{shard}::{member.offset_data}::{member.size}::{member.name}"
                        found.setdefault(ending, []).append(place)
        except (tarfile.TarError, OSError) as error:
            raise DataError(f"{shard} cannot be read as an uncompressed tar file: {error}.") from error
    if image_column is not None:
        if image_column not in found:
            raise DataError(
                f"image_column is {image_column!r}, the images in {shards[0].parent} end in "
                f"{', '.join(sorted(found)) or 'nothing'}."
            )
        return found[image_column]
    if len({_sample(place) for places in found.values() for place in places}) < sum(map(len, found.values())):
        raise DataError(
            f"samples in {shards[0].parent} have several images, ending in {', '.join(sorted(found))}: say which one "
            "by image_column."
        )
    if not found:
        raise DataError(f"{shards[0].parent} has tar files without an image: give others.")
    if len(found) == 1:
        return next(iter(found.values()))
    return sorted(place for places in found.values() for place in places)


def read_member(place: str) -> bytes | None:
    """The bytes at a place of `index_shards`, None if it is another path.

    Raises:
        DataError: if they cannot be read.
    """
    match = _PLACE.fullmatch(place)
    if match is None:
        return None
    try:
        with open(match[1], "rb") as file:
            file.seek(int(match[2]))
            return file.read(int(match[3]))
    except OSError as error:
        raise DataError(f"{match[4]} in {match[1]} cannot be read: {error.strerror}.") from error


def _sample(place: str) -> tuple[str, str]:
    match = _PLACE.fullmatch(place)
    assert match is not None  # made by `index_shards`
    shard, _, _, member = match.groups()
    folder, _, name = member.rpartition("/")
    return shard, f"{folder}/{name.partition('.')[0]}"
