"""Files that are whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from .errors import UserError

PARTIAL = ".partial"


def make_folder(path: Path) -> None:
    """The folder that a result will be written into, made now rather than after hours of work.

    Raises:
        UserError: if there cannot be one.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be a folder for the output: {error.strerror}. Give another one.") from error
    if not os.access(path, os.W_OK):
        raise UserError(f"{path} cannot be written to: give another folder for the output.")


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def write_json(path: Path, value: Any) -> None:
    """As `write_text`; not-a-number is refused, because JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def start_partial(path: Path) -> Path:
    """An empty folder beside `path`; what an earlier attempt left there is removed."""
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
