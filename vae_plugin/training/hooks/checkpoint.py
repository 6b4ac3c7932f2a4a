"""Checkpoints at an interval, and when a run ends or is interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import SafetensorError

from ..checkpoints import save_checkpoint
from ..failures import StepFailed
from ..state import TrainingState
from .base import Hook, Step


class CheckpointHook(Hook):
    """Saves the state of a run.

    Args:
        accelerator: of the run.
        state: of the run.
        output_dir: of the run.
        every: steps between two checkpoints.
        total_limit: number of checkpoints to keep.
        options: of the run by name, which a checkpoint holds.
        data: what a checkpoint holds of the images.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        state: TrainingState,
        output_dir: Path,
        *,
        every: int,
        total_limit: int,
        options: dict[str, Any],
        data: dict[str, Any],
    ) -> None:
        super().__init__(every)
        self.accelerator, self.state, self.output_dir = accelerator, state, output_dir
        self.total_limit, self.options, self.data = total_limit, options, data
        self._saved_step = state.step

    def act(self, step: Step) -> None:
        """Save the state."""
        self.save()

    def save(self) -> None:
        """Save the state, unless that was done after this step.

        Raises:
            StepFailed: if it cannot be written.
        """
        state = self.state
        if self._saved_step == state.step:
            return
        if state.stream:  # each process knows the lanes that it reads
            for positions in gather_object([state.stream]):
                state.stream.update({lane: max(at, state.stream.get(lane, at)) for lane, at in positions.items()})
        try:
            save_checkpoint(self.accelerator, self.output_dir, state, self.options, self.total_limit, self.data)
        except (OSError, RuntimeError, SafetensorError) as error:  # a full disk, in the words of three libraries
            reason = f"the checkpoint cannot be written ({str(error).splitlines()[0]})"
            raise StepFailed(reason, "Make room on the disk") from error
        self._saved_step = state.step
