"""Pickles that run code when they are opened, to put in the place of any file."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import torch


class MakesFolder:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def _saved(value: object, **kwargs: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **kwargs)
    return buffer.getvalue()


HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "pickle": lambda folder: pickle.dumps(MakesFolder(folder)),
    "torch": lambda folder: _saved({"state": MakesFolder(folder)}),
    "old torch": lambda folder: _saved([MakesFolder(folder)], _use_new_zipfile_serialization=False),
}
