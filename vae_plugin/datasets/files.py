"""Finding the images or shards of a split in a local folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .errors import DataError
from .formats import endings
from .rules import LATEST, DataRules

# The names that the `datasets` library accepts for splits.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
SHARDS = {".parquet": "parquet", ".tar": "tar"}
WORDS = {"images": "images", "parquet": "parquet files", "tar": "tar files"}
SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}(-[0-9a-f]+)?")  # file names as the Hub writes them


def find_files(path: Path, split: str, rules: DataRules = LATEST) -> tuple[str, list[Path], list[Path]]:
    """Find the files of a split in a folder; `path` can also be a single shard.

    The `datasets` library could search by itself, but it takes a photograph named "train station.jpg" for a split and
    then silently leaves out all others.

    Returns:
        "images", "parquet" or "tar" (WebDataset); the sorted files of this kind in the split; and all other files in
        the folder. Hidden files are ignored.

    Raises:
        DataError: if the folder or the split does not exist, or the files are ambiguous.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist: give a folder of images or shards, or a single shard.")
    if path.is_file():
        kind = SHARDS.get(path.suffix.lower())
        if kind is None:
            raise DataError(f"{path} is not a parquet or tar file: give one, or a folder of images.")
        own_split = _split_of_shard(Path(path.name)) or "train"
        return kind, _choose(split, {"train": [path], own_split: [path]}, path), []
    found = _walk(path)
    accepted = endings(rules)
    images = [file for file in found if file.suffix.lower() in accepted]
    parquet, tars = ([file for file in found if file.suffix.lower() == ending] for ending in SHARDS)
    kinds = {"images": images, "parquet": parquet, "tar": tars}
    if sum(map(bool, kinds.values())) > 1:
        parts = " and ".join(f"{WORDS[kind]} ({files[0]})" for kind, files in kinds.items() if files)
        raise DataError(f"{path} holds {parts}: give a folder with one kind of file.")
    if not any(kinds.values()):
        raise DataError(
            f"{path} holds no image file (.jpg, .png, .webp, ...) and no .parquet or .tar file: give a folder of "
            "images or shards, or a single shard."
        )
    kind, files = next((kind, files) for kind, files in kinds.items() if files)
    split_of = _split_of_image if kind == "images" else _split_of_shard
    splits: dict[str | None, list[Path]] = {}
    for file in files:
        splits.setdefault(split_of(file.relative_to(path)), []).append(file)
    if list(splits) == [None]:
        splits = {"train": files}
    return kind, _choose(split, splits, path), sorted(set(found) - set(files))


def _choose(split: str, splits: dict[str | None, list[Path]], path: Path) -> list[Path]:
    names = ", ".join(sorted(filter(None, splits)))
    if None in splits:
        raise DataError(
            f"{path} has splits ({names}) but {splits[None][0]} belongs to none of them: give the folder of one split, "
            "or put all files into one sub-folder with another name."
        )
    split = SPLITS.get(split, split)
    if split not in splits:
        raise DataError(f"{path} has no split {split!r}: give one of {names}.")
    return splits[split]


def _walk(folder: Path) -> list[Path]:
    seen = set()
    found = []
    for parent, children, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # symbolic links can form cycles
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
