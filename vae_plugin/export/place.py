"""Where an export goes: nothing that was there is lost unasked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError
from ..files import filling_folder, make_folder, replacing_file


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
    """Refuse to replace a file, and a name that does not say what the file is.

    Raises:
        UserError: if it is there and `overwrite` is False, if it is a folder, or its name has another suffix.
    """
    if file.suffix != suffix or file.is_dir():
        raise UserError(f"{file} must be the name of a {suffix} file: add a name that ends so, as in vae{suffix}.")
    if file.exists() and not overwrite:
        raise UserError(f"{file} is there already: give another name, or --overwrite to replace it.")


@contextmanager
def fill_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """`files.filling_folder`, where `check_folder` allows it."""
    check_folder(folder, overwrite)
    make_folder(folder.parent)
    with filling_folder(folder) as staging:
        yield staging


@contextmanager
def fill_file(file: Path, suffix: str, overwrite: bool) -> Iterator[Path]:
    """`files.replacing_file`, where `check_file` allows it."""
    check_file(file, suffix, overwrite)
    make_folder(file.parent)
    with replacing_file(file) as partial:
        yield partial
