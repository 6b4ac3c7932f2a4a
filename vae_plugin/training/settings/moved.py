"""The options that a run wrote into its output folder, read after the folder was moved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...notices import say_once
from ...options import options_of

OPTIONS_FILE = "training_options.yaml"


def read_where_it_lies(cls: type, path: Path, values: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a file of options, where a run is continued from the folder in which the file lies.

    That folder is the output folder then, whatever it was called when the run wrote the file, and paths below it go
    with it.

    Args:
        cls: of the options.
        path: of the file.
        values: that it gives, by name.
        flags: that are given beside it.
    """
    home, old = path.parent, values.get("output_dir")
    continues = {**values, **flags}.get("resume_from_checkpoint") is not None
    is_of_a_run = path.name == OPTIONS_FILE and (home / "checkpoints").is_dir()
    if old is None or not continues or not is_of_a_run or "output_dir" in flags or _same(old, home):
        return dict(values)
    say_once("moved", f"the output folder is {home}, where the options are; they were written in {old}.")
    moved = dict(values)
    for name, value in values.items():
        if options_of(cls)[name].declaration.path and value is not None:
            many = isinstance(value, tuple)
            found = tuple(_below(item, old, home) for item in (value if many else (value,)))
            moved[name] = found if many else found[0]
    return moved


def _below(path: str, old: str, home: Path) -> str:
    """A path below the old folder as the one below the new folder."""
    outside = os.path.relpath(path, old).split(os.sep)[0] == os.pardir
    return path if outside else os.path.normpath(home / os.path.relpath(path, old))


def _same(one: str, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
