"""The files that a command writes at its end, checked before its work begins."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ..errors import UserError
from ..files import PARTIAL, make_folder


def check_output_files(files: Mapping[str, str | None], pictures: tuple[str, ...] = ()) -> None:
    """Refuse files that could not be written, and make their folders.

    Args:
        files: their names, by the option that gave each; None where it was not given.
        pictures: the options whose files are PNG.

    Raises:
        UserError: if a file is a folder or a device, if its folder cannot be made or written to, if two options name
            the same file, or if a picture has another suffix than .png.
    """
    places: dict[Path, str] = {}
    for option, file in files.items():
        if file is None:
            continue
        path, given = Path(file), f"--{option} {file}"
        if option in pictures and path.suffix.lower() != ".png":
            raise UserError(f"{given} is written as PNG: give a name that ends in .png.")
        try:
            if path.is_dir():
                raise UserError(f"{given} is a folder: name a file in it.")
            if path.exists() and not path.is_file():
                raise UserError(f"{given} is a device: name a file that can be replaced.")
            make_folder(path.parent)
            _try(path)
            place = path.resolve()
        except OSError as error:
            raise UserError(f"{given} cannot be written ({error.strerror}): name another file.") from error
        if place in places:
            raise UserError(f"--{places[place]} and {given} are the same file: give each its own.")
        places[place] = option


def _try(path: Path) -> None:
    """Write nothing beside a file, where `replacing_file` will write it."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        partial.touch()
    finally:
        with suppress(OSError):
            partial.unlink()
