"""Finding the images or shards of a split in local folders."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from ..notices import say_once
from .errors import DataError
from .formats import HEIC_ENDINGS, HEIC_EXTRA, endings
from .members import digest_of
from .paths import lies_under
from .rules import DataRules

# The names that the `datasets` library accepts for splits.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
SHARDS = {".parquet": "parquet", ".tar": "tar"}
METADATA = "metadata.parquet"  # what `datasets` calls the table beside images that describes them
WORDS = {"images": "images", "parquet": "parquet files", "tar": "tar files"}
SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}(-[0-9a-f]+)?")  # file names as the Hub writes them


@dataclass(frozen=True)
class Found:
    """The files of a split.

    Attributes:
        kind: "images", "parquet" or "tar" (WebDataset).
        files: of this kind, sorted within each folder.
        names: of the files, relative to their folder; behind the first folder they begin with its number.
        others: all other files there that are not hidden.
    """

    kind: str
    files: tuple[Path, ...]
    names: tuple[str, ...]
    others: tuple[Path, ...] = ()

    @property
    def digest(self) -> str:
        """See `Origin`."""
        return files_digest(self.names, self.files)


def files_digest(names: Sequence[str], files: Sequence[Path]) -> str:
    """The digest of files by their names and sizes, see `Origin`."""
    sizes = (path.stat().st_size if path.exists() else None for path in files)
    return digest_of(word for file in zip(names, sizes, strict=True) for word in file)


def find_files(paths: Sequence[Path], split: str, rules: DataRules) -> Found:
    """Find the files of a split in folders; each path can also be a single shard.

    The `datasets` library could search by itself, but it takes a photograph named "train station.jpg" for a split and
    then silently leaves out all others.

    Raises:
        DataError: if no path is given, a folder or the split does not exist, the files are ambiguous, or paths overlap:
            an image that is there twice would be held out and trained on.
    """
    if not paths:
        raise DataError("the list of folders of data is empty: give at least one folder or shard.")
    for path, other in permutations(paths, 2):
        if lies_under(path, other):
            raise DataError(f"{path} lies in {other}, or is the same: give folders of data that do not overlap.")
    found = [_find_in(path, split, rules) for path in paths]
    for path, part in zip(paths, found, strict=True):
        if part.kind != found[0].kind:
            raise DataError(
                f"{paths[0]} holds {WORDS[found[0].kind]} and {path} {WORDS[part.kind]}: give folders with one kind of "
                "file."
            )
    names = (name if i == 0 else f"{i + 1}:{name}" for i, part in enumerate(found) for name in part.names)
    return Found(
        found[0].kind,
        tuple(file for part in found for file in part.files),
        tuple(names),
        tuple(other for part in found for other in part.others),
    )


def files_by_kind(found: Sequence[Path], rules: DataRules) -> dict[str, list[Path]]:
    """Kind of file that `find_files` knows -> the files of this kind, for the kinds that are there."""
    accepted = endings(rules)
    kinds = {"images": [file for file in found if file.suffix.lower() in accepted]}
    kinds |= {kind: [file for file in found if file.suffix.lower() == ending] for ending, kind in SHARDS.items()}
    if kinds["images"]:
        kinds["parquet"] = [file for file in kinds["parquet"] if file.name.lower() != METADATA]
    return {kind: files for kind, files in kinds.items() if files}


def _find_in(path: Path, split: str, rules: DataRules) -> Found:
    if not os.path.exists(path):  # false too for a name that no file can have
        raise DataError(f"{path} does not exist: give a folder of images or shards, or a single shard.")
    if path.is_file():
        kind = SHARDS.get(path.suffix.lower())
        if kind is None:
            raise DataError(f"{path} is not a parquet or tar file: give one, or a folder of images.")
        own_split = _split_of_shard(Path(path.name)) or "train"
        _choose(split, {"train": [path], own_split: [path]}, path)
        return Found(kind, (path,), (path.name,))
    found = walk(path)
    kinds = files_by_kind(found, rules)
    heic = [file for file in found if file.suffix.lower() in HEIC_ENDINGS - endings(rules)]
    if heic:
        say_once("HEIC", f"{len(heic)} HEIC file(s) in {path} are left out: to read them, {HEIC_EXTRA}.")
    if len(kinds) > 1:
        parts = " and ".join(f"{WORDS[kind]} ({files[0]})" for kind, files in kinds.items())
        raise DataError(f"{path} holds {parts}: give a folder with one kind of file.")
    if not kinds:
        raise DataError(
            f"{path} holds no image file (.jpg, .png, .webp, ...) and no .parquet or .tar file: give a folder of "
            "images or shards, or a single shard."
        )
    kind, files = next(iter(kinds.items()))
    split_of = _split_of_image if kind == "images" else _split_of_shard
    splits: dict[str | None, list[Path]] = {}
    for file in files:
        splits.setdefault(split_of(file.relative_to(path)), []).append(file)
    if list(splits) == [None]:
        splits = {"train": files}
    chosen = _choose(split, splits, path)
    names = tuple(file.relative_to(path).as_posix() for file in chosen)
    return Found(kind, tuple(chosen), names, tuple(sorted(set(found) - set(files))))


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


def walk(folder: Path) -> list[Path]:
    """The files at any depth that are not hidden, sorted."""
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
