"""The folder of a finished run."""

from __future__ import annotations

import copy
from pathlib import Path

from ..autoencoders import Adapter, load_autoencoder
from ..errors import UserError
from ..export.remote_code import write_remote_code
from ..texts import read_json_object
from .best import FOLDER, Best
from .failures import StepFailed
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


def load_best(adapter: Adapter, output_dir: Path, best: Best) -> None:
    """Give a model the weights of the best evaluation, in place.

    Raises:
        StepFailed: if OUT/best does not hold them.
    """
    folder = output_dir / FOLDER
    remedy = "Continue without --load_best_model_at_end"
    try:
        steps = read_json_object(folder / "metrics.json").get("steps")
        saved = load_autoencoder(str(folder))
    except (OSError, UserError) as error:
        raise StepFailed(f"the best weights cannot be read ({str(error).rstrip('.')})", remedy) from error
    if steps != best.step:
        raise StepFailed(f"{folder} holds the weights of step {steps}, not the best ones, of step {best.step}", remedy)
    adapter.model.load_state_dict(saved.model.state_dict())
