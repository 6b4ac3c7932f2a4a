"""Files and folders that are complete or not there: written beside their place, then renamed."""

from __future__ import annotations

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
    """Make the folder that a result will be written into, now rather than after hours of work.

    Raises:
        UserError: if there cannot be one.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be a folder for the output: {error.strerror}. Give another one.") from error
    if not os.access(path, os.W_OK):
        raise UserError(f"{path} cannot be written to: give another folder for the output.")


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """The name of a file beside `path`, which takes its place when the block ends, and is removed if the block fails.

    A reader sees the old file or the new one, never a part.
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
    """An empty folder beside `path`, whose files move into `path` when the block ends; none does if the block fails.

    Files of other names that are in `path` stay.
    """
    staging = start_partial(path)
    try:
        yield staging
        make_folder(path)
        for file in sorted(staging.iterdir()):
            os.replace(file, path / file.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, which takes its place as a whole when the block ends."""
    staging = start_partial(path)
    try:
        yield staging
        finish_partial(path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file by `replacing_file`."""
    with replacing_file(path) as partial:
        partial.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 by `replacing_file`."""
    with replacing_file(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file by `replacing_file`; not-a-number is refused, because JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def start_partial(path: Path) -> Path:
    """Make an empty folder beside `path`; what an earlier attempt left there is removed.

    For several processes that write together; one alone takes `replacing_folder`.
    """
    partial = path.with_name(path.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def finish_partial(path: Path) -> None:
    """Let the folder of `start_partial` take the place of `path`."""
    partial = path.with_name(path.name + PARTIAL)
    for file in partial.rglob("*"):
        if file.is_file():
            _sync(file)
    _sync(partial)
    if path.exists():
        shutil.rmtree(path)
    os.replace(partial, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
