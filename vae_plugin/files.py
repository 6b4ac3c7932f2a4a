"""Files and folders that are complete or absent: written under another name, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import UserError

PARTIAL = ".partial"


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
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to it when the block ends and removed if the block fails.

    A reader sees the old file or the new one, never a part of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    try:
        yield partial
        _sync(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def filling_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder whose files move into `path` when the block ends; none moves if the block fails.

    Other files in `path`, and in its folders, stay.
    """
    staging = start_partial(path)
    try:
        yield staging
        make_folder(path)
        for file in sorted(file for file in staging.rglob("*") if file.is_file()):
            _sync(file)
            target = path / file.relative_to(staging)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `path` as a whole when the block ends, and is removed if the block fails."""
    staging = start_partial(path)
    try:
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


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file through `replacing_file`; raise ValueError for NaN and infinity, which JSON lacks."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def start_partial(path: Path) -> Path:
    """Create an empty folder beside `path`, removing what a failed attempt left there.

    For processes that write a folder together; a single one uses `replacing_folder`.
    """
    partial = path.with_name(path.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def finish_partial(path: Path) -> None:
    """Rename the folder of `start_partial` to `path`, replacing an older one."""
    partial = path.with_name(path.name + PARTIAL)
    for file in partial.rglob("*"):
        if file.is_file():
            _sync(file)
    _sync(partial)
    if path.exists():
        shutil.rmtree(path)
    os.replace(partial, path)
    _sync(path.parent)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
