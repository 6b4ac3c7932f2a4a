"""A step that cannot be taken, raised where it is found and told in one place."""

from __future__ import annotations

from pathlib import Path

from ..errors import TrainingStopped
from .checkpoints import list_checkpoints

LOWER_RATE = "A lower --learning_rate, a longer --lr_warmup_steps, or --mixed_precision no may help"


class StepFailed(RuntimeError):
    """Training cannot continue; nothing was changed by the step that failed.

    Args:
        reason: what went wrong, without its step.
        remedy: what may help.
    """

    def __init__(self, reason: str, remedy: str = LOWER_RATE) -> None:
        super().__init__(reason)
        self.remedy = remedy


def stopped(failure: StepFailed, output_dir: Path, step: int) -> TrainingStopped:
    """The error that ends the run, with the last good checkpoint."""
    checkpoints = list_checkpoints(output_dir)
    where = f"the last good checkpoint is {checkpoints[-1]}" if checkpoints else "no checkpoint was written yet"
    return TrainingStopped(f"{failure} at step {step:,}: training stopped, {where}. {failure.remedy}.")
