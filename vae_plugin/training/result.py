"""The folder of a finished run."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from ..autoencoders import Adapter
from ..export.remote_code import write_remote_code
from ..files import filling_folder, write_json
from .lora import merge_lora


def save_model(adapter: Adapter, folder: Path, remote_code: bool = False) -> None:
    """Weights and configuration of a model that is being trained, which is left as it is."""
    copied = copy.deepcopy(adapter)
    merge_lora(copied.model)
    copied.save(folder)
    if remote_code:
        write_remote_code(folder)


def save_weights(adapter: Adapter, output_dir: Path, remote_code: bool = False) -> None:
    """Weights and configuration of a result, written beside their place and renamed."""
    with filling_folder(output_dir) as staging:
        adapter.save(staging)
        if remote_code:
            write_remote_code(staging)


def save_metrics(metrics: dict[str, Any], output_dir: Path) -> None:
    """OUT/metrics.json."""
    write_json(output_dir / "metrics.json", metrics)
