"""The folder of a finished run."""

from __future__ import annotations

import copy
from pathlib import Path

from ..autoencoders import Adapter
from ..export.remote_code import write_remote_code
from .lora import merge_lora


def save_model(adapter: Adapter, folder: Path, remote_code: bool = False) -> None:
    """Weights and configuration of a model that is being trained, which is left as it is."""
    copied = copy.deepcopy(adapter)
    merge_lora(copied.model)
    save_weights(copied, folder, remote_code)


def save_weights(adapter: Adapter, folder: Path, remote_code: bool = False) -> None:
    """Weights and configuration of a model as it is."""
    adapter.save(folder)
    if remote_code:
        write_remote_code(folder)
