"""Finding the images or shards of a split in local folders."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path, PurePath

from ..notices import say_once
from .errors import DataError
from .formats import HEIC_ENDINGS, HEIC_EXTRA, array_endings, endings
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
    files: tuple[str, ...]
    names: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """See `Origin`."""
        return files_digest(self.names, self.files)


def files_digest(names: Sequence[str], files: Sequence[str]) -> str:
    """The digest of files by their names and sizes, see `Origin`."""
    return digest_of(word for name, file in zip(names, files, strict=True) for word in (name, _size(file)))


def _size(file: str) -> int | None:
    try:
        return os.stat(file).st_size
    except OSError:  # a link to nowhere
        return None


def find_files(
    paths: Sequence[Path], split: str | None, rules: DataRules, takes_array: Callable[[str], bool] = lambda file: False
) -> Found:
    """Find the files of a split in folders; each path can also be a single shard. None is the only split of a folder.

    Beside image files those arrays (.npy and .npz) are images too that `takes_array` takes, but not where an image file
    has the same name: they are its mask, its latents or the like.

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
    found = [_find_in(path, split, rules, takes_array) for path in paths]
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


def files_by_kind(found: Sequence[str], rules: DataRules) -> dict[str, list[str]]:
    """Kind of file that `find_files` knows -> the names of this kind, for the kinds that are there."""
    accepted = {**dict.fromkeys(endings(rules), "images"), **SHARDS}
    kinds: dict[str, list[str]] = {kind: [] for kind in ("images", *SHARDS.values())}
    for name in found:
        if (kind := accepted.get(_ending(name))) is not None:
            kinds[kind].append(name)
    if kinds["images"]:
        kinds["parquet"] = [name for name in kinds["parquet"] if PurePath(name).name.lower() != METADATA]
    if not any(kinds.values()):
        kinds["images"] = [name for name in found if _ending(name) in array_endings(rules)]
    return {kind: names for kind, names in kinds.items() if names}


def _with_arrays(
    path: Path, found: Sequence[str], images: list[str], rules: DataRules, takes_array: Callable[[str], bool]
) -> list[str]:
    """The images with the arrays beside them that are images too, in order."""
    arrays = [name for name in found if _ending(name) in array_endings(rules)]
    if not arrays or _ending(images[0]) in array_endings(rules):
        return images
    stems = {os.path.splitext(name)[0] for name in images}
    taken = {name for name in arrays if os.path.splitext(name)[0] not in stems and takes_array(file_in(path, name))}
    if taken:
        say_once(
            f"arrays in {path}",
            f"{len(taken)} .npy or .npz file(s) in {path} are read as images too, such as {min(taken)}.",
        )
    taken.update(images)
    return [name for name in found if name in taken]


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _find_in(path: Path, split: str | None, rules: DataRules, takes_array: Callable[[str], bool]) -> Found:
    if not os.path.exists(path):  # false too for a name that no file can have
        raise DataError(f"{path} does not exist: give a folder of images or shards, or a single shard.")
    if path.is_file():
        kind = SHARDS.get(path.suffix.lower())
        if kind is None:
            raise DataError(f"{path} is not a parquet or tar file: give one, or a folder of images.")
        own_split = _split_of_shard(path.name) or "train"
        if split is not None:
            _choose(split, {"train": [path.name], own_split: [path.name]}, path)
        return Found(kind, (str(path),), (path.name,))
    found = walk(path)
    kinds = files_by_kind(found, rules)
    left_out = HEIC_ENDINGS - endings(rules)
    if heic := sum(_ending(name) in left_out for name in found) if left_out else 0:
        say_once("HEIC", f"{heic} HEIC file(s) in {path} are left out: to read them, {HEIC_EXTRA}.")
    if len(kinds) > 1:
        parts = " and ".join(f"{WORDS[kind]} ({file_in(path, names[0])})" for kind, names in kinds.items())
        raise DataError(f"{path} holds {parts}: give a folder with one kind of file.")
    if not kinds:
        raise DataError(
            f"{path} holds no image file (.jpg, .png, .tif, .npy, ...) and no .parquet or .tar file: give a folder of "
            "images or shards, or a single shard."
        )
    kind, names = next(iter(kinds.items()))
    if kind == "images":
        names = _with_arrays(path, found, names, rules, takes_array)
    split_of = _split_of_image if kind == "images" else _split_of_shard
    splits: dict[str | None, list[str]] = {}
    for name in names:
        splits.setdefault(split_of(name), []).append(name)
    if list(splits) == [None]:
        splits = {"train": names}
    chosen = _choose(split, splits, path)
    used = set(names)
    others = tuple(file_in(path, name) for name in found if name not in used)
    return Found(kind, tuple(file_in(path, name) for name in chosen), tuple(chosen), others)


def _choose(split: str | None, splits: dict[str | None, list[str]], path: Path) -> list[str]:
    names = ", ".join(sorted(filter(None, splits)))
    if None in splits:
        other = file_in(path, splits[None][0])
        raise DataError(
            f"{path} has splits ({names}) but {other} belongs to none of them: give the folder of one split, or put "
            "all files into one sub-folder with another name."
        )
    if split is None:
        if len(splits) > 1:
            raise DataError(f"{path} has the splits {names}: give the folder of one of them.")
        return next(iter(splits.values()))
    split = split_name(split)
    if split not in splits:
        raise DataError(f"{path} has no split {split!r}: give one of {names}.")
    return splits[split]


def split_name(split: str) -> str:
    """A split by the first of its names."""
    return SPLITS.get(split, split)


def walk(folder: Path) -> list[str]:
    """The files at any depth that are not hidden: their names in the folder, with "/", sorted as paths are."""
    found: list[str] = []
    _walk(str(folder), "", set(), found)
    return found


def _walk(folder: str, prefix: str, seen: set[str], found: list[str]) -> None:
    # Text rather than `Path`s, which would take most of the time and the memory of a folder of 100,000 files.
    real = os.path.realpath(folder)
    if real in seen:  # symbolic links can form cycles
        return
    seen.add(real)
    try:
        with os.scandir(folder) as entries:
            inside = [(entry.name, _is_folder(entry)) for entry in entries if not entry.name.startswith(".")]
    except OSError:  # what may not be listed has no files
        return
    for name, is_folder in sorted(inside, key=lambda entry: os.path.normcase(entry[0])):
        if is_folder:
            _walk(os.path.join(folder, name), f"{prefix}{name}/", seen, found)
        else:
            found.append(prefix + name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def file_in(folder: Path, name: str) -> str:
    """The path of a file that `walk` has found."""
    base = str(folder)
    return os.path.join("" if base == os.curdir else base, name.replace("/", os.sep))


def _split_of_image(name: str) -> str | None:
    top, inside, _ = name.partition("/")
    return SPLITS.get(top.lower()) if inside else None


def _split_of_shard(name: str) -> str | None:
    if match := SHARD.fullmatch(PurePath(name).stem):
        return SPLITS.get(match[1], match[1])
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), None)
