"""Continuing a run: what its checkpoint says is read before the parts are built, and their state once they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from accelerate import Accelerator

from ..datasets.members import DataRecord
from ..errors import UserError
from ..options import OptionError, as_typed, changed, to_dict
from .checkpoints import Content, find_checkpoint, list_checkpoints, read_checkpoint, read_states
from .main_process import on_main
from .parts import RunParts, StateMismatch
from .settings import FinetuneOptions
from .state import TrainingState

DATA = {"dataset_name", "train_data_dir"}
NOT_REPORTED = ("output_dir", "resume_from_checkpoint")


@dataclass
class Beginning:
    """Where a run begins: at its first step, or at a checkpoint.

    Attributes:
        state: how far the run has come.
        data: what it says of the images.
        checkpoint: the folder to continue from.
        content: what it says.
    """

    state: TrainingState = field(default_factory=TrainingState)
    data: DataRecord = field(default_factory=DataRecord)
    checkpoint: Path | None = None
    content: Content | None = None

    def restore(self, parts: RunParts, options: FinetuneOptions) -> None:
        """Set the state of the parts, and say which options changed.

        Args:
            parts: of the run, all of them.
            options: of the run, with what was left open settled.

        Raises:
            UserError: if the checkpoint was made with other options that cannot change, or is damaged.
        """
        if self.checkpoint is None or self.content is None:
            return
        accelerator = parts.accelerator
        try:
            differences = changed(self.content.options, options)
        except OptionError as error:
            raise UserError(f"{self.checkpoint} cannot be continued so: {error}") from error
        if self.data.digest is None and not options.data.allow_changed_data:
            for name in DATA & differences.keys():
                raise UserError(
                    f"{self.checkpoint} does not say which images it was made with, and --{name} was "
                    f"{as_typed(differences[name])} and is now {as_typed(to_dict(options)[name])}: keep it, or give "
                    "--allow_changed_data if they are the same images."
                )
        try:
            parts.load_engine(self.checkpoint)
            parts.restore(read_states(self.checkpoint, self.content))
        except StateMismatch as error:
            raise UserError(f"{self.checkpoint} cannot be continued so: {error}.") from error
        accelerator.print(f"Continuing from {self.checkpoint}.")
        now = to_dict(options)
        for option, value in differences.items():
            if option not in NOT_REPORTED:
                accelerator.print(f"  --{option} was {as_typed(value)} and is {as_typed(now[option])} from here on.")


def find_beginning(accelerator: Accelerator, output_dir: Path, resume_from: str | None) -> Beginning:
    """Where a run begins that is given `--resume_from_checkpoint`, or None.

    Raises:
        UserError: if there is no such checkpoint, or there are some and none was asked for.
    """
    if resume_from is None:
        existing = list_checkpoints(output_dir)
        if existing:
            raise UserError(
                f"{output_dir} has checkpoints up to {existing[-1].name}: continue with --resume_from_checkpoint "
                "latest, or give another --output_dir."
            )
        return Beginning()
    checkpoint = on_main(accelerator, lambda: find_checkpoint(output_dir, resume_from))
    if checkpoint is None:
        accelerator.print(f"No checkpoint in {output_dir / 'checkpoints'} yet: starting from the beginning.")
        return Beginning()
    content = read_checkpoint(checkpoint)
    record = DataRecord.read(content.data, checkpoint)
    return Beginning(content.state, record, checkpoint, content)
