"""Checkpoints at an interval, and when a run ends or is interrupted."""

from __future__ import annotations

from pathlib import Path

from accelerate.utils import gather_object

from ..checkpoints import Content, save_checkpoint
from ..failures import StepFailed, writing
from ..parts import RunParts
from .base import Hook, Step


class CheckpointHook(Hook):
    """Saves the state of a run.

    Args:
        parts: of the run.
        content: what its checkpoints say beside their state.
        output_dir: of the run.
        every: steps between two checkpoints.
        total_limit: number of checkpoints to keep.
    """

    def __init__(self, parts: RunParts, content: Content, output_dir: Path, *, every: int, total_limit: int) -> None:
        super().__init__(every)
        self.parts, self.content, self.output_dir, self.total_limit = parts, content, output_dir, total_limit
        self._saved_step = content.state.step

    def act(self, step: Step) -> None:
        """Save the state."""
        self.save()

    def save(self) -> None:
        """Save the state, unless that was done after this step.

        Raises:
            StepFailed: if it cannot be written.
        """
        state = self.content.state
        if self._saved_step == state.step:
            return
        if state.stream:  # each process knows the lanes that it reads
            for positions in gather_object([state.stream]):
                state.stream.update({lane: max(at, state.stream.get(lane, at)) for lane, at in positions.items()})
        folder = self.output_dir / "checkpoints"
        try:
            with writing("the checkpoint", folder):
                save_checkpoint(self.parts, self.output_dir, self.content, self.total_limit)
        except RuntimeError as error:  # a full disk, in the words of what DeepSpeed writes with
            if isinstance(error, StepFailed):
                raise
            reason = f"the checkpoint cannot be written to {folder} ({str(error).splitlines()[0]})"
            raise StepFailed(reason, "Make room on the disk") from error
        self._saved_step = state.step
