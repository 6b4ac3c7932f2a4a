"""The output folder, which one run at a time has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator

from ..errors import UserError
from ..files import finish_filling, make_folder
from ..locks import FolderLock
from ..notices import say_once
from .main_process import on_main


@contextmanager
def output_folder(accelerator: Accelerator, path: Path) -> Iterator[None]:
    """Have a folder for the run of this block, and of all its processes.

    Raises:
        UserError: if it cannot be written to, or another run has it.
    """
    lock = FolderLock(path)

    def take() -> None:
        make_folder(path)
        if not lock.take():
            raise UserError(
                f"another run is writing into {path}: wait until it has ended, or give another --output_dir."
            )
        if not lock.exists:
            say_once("locks", f"the file system of {path} has no locks: see to it that no other run writes there.")
        finish_filling(path)  # the result of a run that was killed while it appeared

    try:
        on_main(accelerator, take)
        yield
    finally:
        lock.release()
