"""Checkpoints: whole folders OUT/checkpoints/step-000500, limited in number, from which a run continues."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from accelerate import Accelerator

from ..errors import UserError
from ..files import PARTIAL, finish_partial, start_partial, write_json

STATE_FILE = "training_state.json"
_NAME = re.compile(r"step-(\d{6,})")


@dataclass
class TrainingState:
    """How far a run has come.

    Attributes:
        step: optimiser steps done.
        epoch: passes over the data completed.
        images_in_epoch: images seen since, over all processes.
        images: images seen since the run began, over all processes.
        stream: where each lane of an `ImageStream` stands, by its number.
        best_psnr: of the evaluations during training, in dB.
    """

    step: int = 0
    epoch: int = 0
    images_in_epoch: int = 0
    images: int = 0
    stream: dict[str, list[int]] = field(default_factory=dict)
    best_psnr: float | None = None


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    folder = output_dir / "checkpoints"
    found = [p for p in folder.glob("step-*") if _NAME.fullmatch(p.name) and (p / STATE_FILE).is_file()]
    return sorted(found, key=lambda p: int(_NAME.fullmatch(p.name)[1]))


def save_checkpoint(
    accelerator: Accelerator, output_dir: Path, state: TrainingState, options: dict, total_limit: int | None
) -> Path:
    """Write the state of every process beside its place, rename it, then remove the oldest beyond `total_limit`.

    Every process calls this: each saves its own random-number state.
    """
    path = output_dir / "checkpoints" / f"step-{state.step:06d}"
    if accelerator.is_main_process:
        start_partial(path)
    accelerator.wait_for_everyone()
    partial = path.with_name(path.name + PARTIAL)
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_json(partial / STATE_FILE, {"state": asdict(state), "options": options})
        finish_partial(path)
        if total_limit is not None:
            for old in list_checkpoints(output_dir)[:-total_limit]:
                shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return path


def find_checkpoint(output_dir: Path, resume_from: str) -> Path | None:
    """The folder that `--resume_from_checkpoint` means: "latest", a name in OUT/checkpoints, or a path.

    Returns:
        None for "latest" when there is no checkpoint yet.

    Raises:
        UserError: if there is no whole checkpoint at the place named.
    """
    checkpoints = list_checkpoints(output_dir)
    if resume_from == "latest":
        return checkpoints[-1] if checkpoints else None
    for path in (output_dir / "checkpoints" / resume_from, Path(resume_from)):
        if (path / STATE_FILE).is_file():
            return path
    names = ", ".join(p.name for p in checkpoints) or "none"
    raise UserError(
        f"--resume_from_checkpoint {resume_from}: no checkpoint there; {output_dir / 'checkpoints'} has: {names}. "
        "Give one of them, a path, or 'latest'."
    )


def read_checkpoint(path: Path) -> tuple[TrainingState, dict]:
    """The state of a checkpoint and the options of the run that wrote it."""
    content = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
    return TrainingState(**content["state"]), content["options"]
