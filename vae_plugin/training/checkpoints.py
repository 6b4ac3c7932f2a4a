"""Checkpoints: complete folders OUT/checkpoints/step-000500, limited in number, from which a run continues."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ..errors import UserError
from ..files import PARTIAL, finish_partial, start_partial, write_json
from .state import TrainingState

STATE_FILE = "training_state.json"
_NAME = re.compile(r"step-(\d{6,})")


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    folder = output_dir / "checkpoints"
    found = [(_NAME.fullmatch(path.name), path) for path in folder.glob("step-*") if (path / STATE_FILE).is_file()]
    return [path for _, path in sorted((int(match[1]), path) for match, path in found if match is not None)]


def save_checkpoint(
    accelerator: Accelerator,
    output_dir: Path,
    state: TrainingState,
    options: dict[str, Any],
    total_limit: int | None,
    data: dict[str, Any],
) -> Path:
    """Write the state of every process beside its place, rename it, then remove the oldest beyond `total_limit`.

    Every process calls this: each saves its own random-number state.

    Args:
        accelerator: of the run.
        output_dir: of the run.
        state: how far it has come.
        options: of the run by name, to compare with those of its continuation.
        total_limit: number of checkpoints to keep.
        data: what the continuation has to know of the images.
    """
    path = output_dir / "checkpoints" / f"step-{state.step:06d}"
    if accelerator.is_main_process:
        start_partial(path)
    accelerator.wait_for_everyone()
    partial = path.with_name(path.name + PARTIAL)
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_json(partial / STATE_FILE, {"state": asdict(state), "options": options, "data": data})
        finish_partial(path)
        if total_limit is not None:
            for old in list_checkpoints(output_dir)[:-total_limit]:
                shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return path


def find_checkpoint(output_dir: Path, resume_from: str) -> Path | None:
    """The folder that `--resume_from_checkpoint` names: "latest", a name in OUT/checkpoints, or a path.

    Returns:
        None for "latest" when there is no checkpoint yet.

    Raises:
        UserError: if there is no complete checkpoint of that name.
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


@dataclass(frozen=True)
class Content:
    """What a checkpoint says beside the state of the parts.

    Attributes:
        state: how far the run has come.
        options: of the run that wrote it, by name.
        data: what the continuation has to know of the images; empty in checkpoints of release 0.1.
    """

    state: TrainingState
    options: dict[str, Any]
    data: dict[str, Any]


def read_checkpoint(path: Path) -> Content:
    """What the checkpoint in a folder says."""
    content = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
    return Content(TrainingState(**content["state"]), content["options"], content.get("data", {}))
