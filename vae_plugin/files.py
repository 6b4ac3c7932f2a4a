"""Files and folders that are complete or absent: written under another name, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from .errors import UserError
from .locks import FolderLock

PARTIAL = ".partial"
REPLACED = ".replaced"
FILLING = ".result"  # of a folder: files that are complete, and on their way into it
SETTLED_WITHIN = 10.0  # seconds that this may take
ATTEMPTS = 20
WINDOWS = os.name == "nt"


def make_folder(path: Path) -> None:
    """Create an output folder, before the hours of work whose result goes there.

    Raises:
        UserError: if it cannot be created or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be the output folder: {error.strerror}. Give another folder.") from error
    if not os.access(path, os.W_OK):
        raise UserError(f"{path} is not writable: give another output folder.")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of writing, also those of safetensors, as an `OSError` that names what was written.

    Raises:
        OSError: with its number, reason and file.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    except SafetensorError as error:
        code = re.search(r"(?:code:|os error) (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to it when the block ends and removed if the block fails.

    A reader sees the old file or the new one, never a part of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    try:
        with naming(path):
            yield partial
            _sync(partial)
            os.replace(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def filling_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder whose files move into `path` when the block ends; none moves if the block fails.

    Other files in `path`, and in its folders, stay. The new ones are written inside `path`, which may be a file system
    of its own. Once all are on the disk they will move, if need be by `finish_filling` after this process was killed.
    """
    is_new = not path.exists()
    staging = path / (FILLING + PARTIAL)
    try:
        with naming(path):
            finish_filling(path)
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            yield staging
            _commit(staging, path)
            finish_filling(path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if is_new and path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _commit(staging: Path, path: Path) -> None:
    """Have all files on the disk and able to move, and then say so by one rename."""
    targets = {file: path / file.relative_to(staging) for file in staging.rglob("*") if file.is_file()}
    for file, target in targets.items():
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
        _sync(file)
    for folder in {file.parent for file in targets} | {staging}:
        _sync(folder)
    for target in targets.values():
        target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(staging, path / FILLING)
    _sync(path)


def finish_filling(path: Path) -> None:
    """Move what `filling_folder` had complete, and was killed before it had moved all of it."""
    staging = path / FILLING
    if not staging.is_dir():
        return
    for file in sorted(staging.rglob("*")):
        if file.is_file():
            with suppress(FileNotFoundError):  # moved by another process, which waited for it
                os.replace(file, path / file.relative_to(staging))
    _sync(path)
    shutil.rmtree(staging, ignore_errors=True)


def settle(path: Path) -> None:
    """Wait until no file of a folder is of a result and another of the one before.

    Raises:
        UserError: if it is being written for longer than that takes, or was not written to its end and cannot be.
    """
    end = time.monotonic() + SETTLED_WITHIN
    while (path / FILLING).is_dir():
        lock = FolderLock(path)
        try:
            if lock.take():  # of a run that was killed
                finish_filling(path)
                continue
        except OSError as error:
            raise UserError(
                f"the result in {path} was not written to its end, and cannot be ({error.strerror}): continue the run "
                "with --resume_from_checkpoint latest."
            ) from error
        finally:
            lock.release()
        if time.monotonic() > end:
            raise UserError(f"a run is writing its result into {path}: try again when it has ended.")
        time.sleep(0.05)


def copy_files(folder: Path, target: Path, select: Callable[[], Mapping[str, Path]]) -> None:
    """Copy files of a folder as they were at one moment, though a run may be writing there.

    Args:
        folder: of the files.
        target: a new folder.
        select: gives them by their path in `target`, as they are now.

    Raises:
        UserError: if they keep changing.
    """
    refusals = 0
    for _ in range(ATTEMPTS):
        settle(folder)
        try:
            before = _marks(select())
            for name, path in select().items():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target / name)
            if before == _marks(select()) and not (folder / FILLING).is_dir():
                return
        except UserError:  # perhaps because something is on its way
            refusals += 1
            if refusals == 2:
                raise
        except FileNotFoundError:  # of a folder that was replaced as a whole
            pass
        shutil.rmtree(target, ignore_errors=True)
        time.sleep(0.05)
    raise UserError(f"the files in {folder} keep changing: try again when nothing writes there.")


def _marks(files: Mapping[str, Path]) -> dict[str, tuple[int, int, int]]:
    """What changes with the content of files."""
    return {name: (s.st_ino, s.st_size, s.st_mtime_ns) for name, path in files.items() if (s := path.stat())}


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `path` as a whole when the block ends, and is removed if the block fails."""
    staging = start_partial(path)
    try:
        with naming(path):
            yield staging
            finish_partial(path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file through `replacing_file`."""
    with replacing_file(path) as partial:
        partial.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, with its line ends as they are, through `replacing_file`."""
    with replacing_file(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def write_json(path: Path, value: Any, sort_keys: bool = False) -> None:
    """Write a JSON file through `replacing_file`.

    Raises:
        UserError: if the value has NaN or infinity, which JSON lacks; the message names where.
    """
    write_text(path, json_text(value, path.name, indent=2, sort_keys=sort_keys) + "\n")


def json_text(value: Any, name: str, **layout: Any) -> str:
    """A value as JSON; everything of ours that is JSON is written through this.

    Args:
        value: of plain types.
        name: of what it is written to, for the message.
        layout: as of `json.dumps`.

    Raises:
        UserError: if it has NaN or infinity.
    """
    try:
        return json.dumps(value, allow_nan=False, **layout)
    except ValueError as error:
        place = next(_not_finite(value), None)
        if place is None:
            raise
        raise UserError(
            f"{name} cannot hold {place}: JSON has no such number, and the model that has it is damaged."
        ) from error


def _not_finite(value: Any, place: str = "") -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{place} = {value}" if place else str(value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _not_finite(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from _not_finite(inner, f"{place}[{i}]")


def start_partial(path: Path) -> Path:
    """Create an empty folder beside `path`, removing what a failed attempt left there.

    For processes that write a folder together; a single one uses `replacing_folder`.
    """
    partial, old = path.with_name(path.name + PARTIAL), path.with_name(path.name + REPLACED)
    shutil.rmtree(partial, ignore_errors=True)
    if old.exists() and not path.exists():  # killed between two renames
        os.rename(old, path)
    partial.mkdir(parents=True)
    return partial


def finish_partial(path: Path) -> None:
    """Rename the folder of `start_partial` to `path`, replacing an older one."""
    partial, old = path.with_name(path.name + PARTIAL), path.with_name(path.name + REPLACED)
    for file in partial.rglob("*"):
        _sync(file)
    _sync(partial)
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(path, old)
    os.rename(partial, path)
    _sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Have a file or folder on the disk, and not only on its way there."""
    if WINDOWS and path.is_dir():  # which cannot be opened there
        return
    descriptor = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)  # Windows syncs what was opened to write
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
