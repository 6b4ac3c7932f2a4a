"""The target of an export: nothing is overwritten unless asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError
from ..files import filling_folder, make_folder, replacing_file


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse to write into a non-empty folder.

    Raises:
        UserError: if it is not empty and `overwrite` is False, or if it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: give a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UserError(
            f"{folder} is not empty: give another folder, or --overwrite to replace files of the same name."
        )


def check_file(file: Path, suffix: str, overwrite: bool) -> None:
    """Refuse to replace a file, and a name with another suffix.

    Raises:
        UserError: if it exists and `overwrite` is False, if it is a folder, or if it has another suffix.
    """
    if file.suffix != suffix or file.is_dir():
        raise UserError(f"{file} must be the name of a {suffix} file, such as vae{suffix}.")
    if file.exists() and not overwrite:
        raise UserError(f"{file} already exists: give another name, or --overwrite to replace it.")


@contextmanager
def fill_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Write a folder through `files.filling_folder`, if `check_folder` allows it."""
    check_folder(folder, overwrite)
    make_folder(folder.parent)
    with filling_folder(folder) as staging:
        yield staging


@contextmanager
def fill_file(file: Path, suffix: str, overwrite: bool) -> Iterator[Path]:
    """Write a file through `files.replacing_file`, if `check_file` allows it."""
    check_file(file, suffix, overwrite)
    make_folder(file.parent)
    with replacing_file(file) as partial:
        yield partial
