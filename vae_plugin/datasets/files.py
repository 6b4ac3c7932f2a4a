"""Which files of a local folder are the images, or the shards, of a split."""

from __future__ import annotations

import os
import re
from pathlib import Path

from PIL import Image

from .transforms import DataError

# The words that `datasets` takes for splits.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
SHARDS = {".parquet": "parquet", ".tar": "tar"}
WORDS = {"images": "images", "parquet": "parquet files", "tar": "tar files"}
SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}(-[0-9a-f]+)?")  # the Hub's own file names


def find_files(place: Path, split: str) -> tuple[str, list[Path], list[Path]]:
    """The files of a split of a folder, or the one shard that was given.

    `datasets` can look for them itself, but takes a photograph named "train station.jpg" for a split and then leaves
    out all others without a word.

    Returns:
        "images", "parquet" or "tar" (WebDataset); the files of that kind in the split, sorted; the files in the folder
        that are of another kind. Hidden files are in none of these.

    Raises:
        DataError: if the folder or the split does not exist, or if it is not clear which files are meant.
    """
    if not place.exists():
        raise DataError(f"{place} does not exist: give a folder of images or of shards, or one shard.")
    if place.is_file():
        kind = SHARDS.get(place.suffix.lower())
        if kind is None:
            raise DataError(f"{place} is not a parquet or tar file: give one, or the folder of the images.")
        own_split = _split_of_shard(Path(place.name)) or "train"
        return kind, _choose(split, {"train": [place], own_split: [place]}, place), []
    found = _walk(place)
    endings = {ending for ending, name in Image.registered_extensions().items() if name in Image.OPEN}
    images = [path for path in found if path.suffix.lower() in endings]
    parquet, tars = ([path for path in found if path.suffix.lower() == ending] for ending in SHARDS)
    kinds = {"images": images, "parquet": parquet, "tar": tars}
    if sum(map(bool, kinds.values())) > 1:
        parts = " and ".join(f"{WORDS[kind]} ({paths[0]})" for kind, paths in kinds.items() if paths)
        raise DataError(f"{place} holds {parts}: give a folder of one kind.")
    if not any(kinds.values()):
        raise DataError(
            f"{place} holds no image file (.jpg, .png, .webp and the like) and no .parquet or .tar file: give a folder "
            "of images or of shards, or one shard."
        )
    kind, files = next((kind, paths) for kind, paths in kinds.items() if paths)
    split_of = _split_of_image if kind == "images" else _split_of_shard
    splits: dict[str | None, list[Path]] = {}
    for path in files:
        splits.setdefault(split_of(path.relative_to(place)), []).append(path)
    if list(splits) == [None]:
        splits = {"train": files}
    return kind, _choose(split, splits, place), sorted(set(found) - set(files))


def _choose(split: str, splits: dict[str | None, list[Path]], place: Path) -> list[Path]:
    names = ", ".join(sorted(filter(None, splits)))
    if None in splits:
        raise DataError(
            f"{place} has splits ({names}) and beside them {splits[None][0]}, which is in none: give the folder of one "
            "split, or put all files into one sub-folder of another name."
        )
    split = SPLITS.get(split, split)
    if split not in splits:
        raise DataError(f"{place} has no split {split!r}: the splits that it has are {names}.")
    return splits[split]


def _walk(folder: Path) -> list[Path]:
    seen = set()
    found = []
    for parent, children, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # links may lead in circles
            children.clear()
            continue
        seen.add(real)
        children[:] = sorted(name for name in children if not name.startswith("."))
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(found)


def _split_of_image(relative: Path) -> str | None:
    return SPLITS.get(relative.parts[0].lower()) if len(relative.parts) > 1 else None


def _split_of_shard(relative: Path) -> str | None:
    if match := SHARD.fullmatch(relative.stem):
        return SPLITS.get(match[1], match[1])
    words = re.split(r"[^a-z]+", relative.as_posix().lower())
    return next((SPLITS[word] for word in words if word in SPLITS), None)
