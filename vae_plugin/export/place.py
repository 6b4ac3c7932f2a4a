"""Where an export goes: nothing that was there is lost unasked, and what is written is whole or not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError
from ..files import PARTIAL, make_folder, start_partial


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse to write into a folder that has something in it.

    Raises:
        UserError: if it has and `overwrite` is False, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: give a folder to write into.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UserError(f"{folder} is not empty: give another folder, or --overwrite to replace files of equal names.")


def check_file(file: Path, suffix: str, overwrite: bool) -> None:
    """Refuse a file that is there, and a name that does not say what it is.

    Raises:
        UserError: if it is there and `overwrite` is False, if it is a folder, or its name has another suffix.
    """
    if file.suffix != suffix or file.is_dir():
        raise UserError(f"{file} must be the name of a {suffix} file: add a name that ends so, as in vae{suffix}.")
    if file.exists() and not overwrite:
        raise UserError(f"{file} is there already: give another name, or --overwrite to replace it.")


@contextmanager
def fill_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """An empty folder beside `folder`; its files move into `folder` when the block ends, none if it fails.

    Files of other names that were in `folder` stay: it may hold more than an export.

    Raises:
        UserError: as `check_folder`.
    """
    check_folder(folder, overwrite)
    make_folder(folder.parent)
    staging = start_partial(folder)
    try:
        yield staging
        make_folder(folder)
        for file in sorted(staging.iterdir()):
            os.replace(file, folder / file.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def fill_file(file: Path, suffix: str, overwrite: bool) -> Iterator[Path]:
    """The name of a file beside `file`, which takes its place when the block ends, and is removed if it fails.

    Raises:
        UserError: as `check_file`.
    """
    check_file(file, suffix, overwrite)
    make_folder(file.parent)
    partial = file.with_name(file.name + PARTIAL)
    try:
        yield partial
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
