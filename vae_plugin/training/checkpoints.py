"""Checkpoints: complete folders OUT/checkpoints/step-000500, limited in number, from which a run continues.

Their files are safetensors and JSON. OUT/checkpoints/step-000500/training_state.json holds the SHA-256 of every other
file, and its own.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import TrainingStopped, UserError
from ..files import PARTIAL, finish_partial, sha256, start_partial, write_json
from ..models.distributed import wait_for_processes
from ..texts import read_json_object
from .failures import StepFailed
from .main_process import on_main
from .old_checkpoints import read_old
from .parts import RunParts
from .state import TrainingState
from .trees import read_tree, write_tree

STATE_FILE = "training_state.json"
FORMAT = 2  # 1 is that of release 0.1, which names none
_NAME = re.compile(r"step-(\d{6,})")


class DamagedCheckpoint(UserError):
    """A checkpoint that cannot be continued from.

    Attributes:
        reason: a clause that names the file.
    """

    reason = ""

    @classmethod
    def of(cls, path: Path, reason: str) -> DamagedCheckpoint:
        """The error for the checkpoint in a folder."""
        reason = (reason.splitlines() or ["unreadable"])[0].rstrip(".")
        error = cls(f"{path} is damaged: {reason}. Continue from another checkpoint, or start anew.")
        error.reason = reason
        return error


@dataclass(frozen=True)
class Content:
    """What a checkpoint says beside the state of the parts.

    Attributes:
        state: how far the run has come.
        options: of the run that wrote it, by name.
        data: what the continuation has to know of the images; empty in checkpoints of release 0.1.
        files: SHA-256 of every other file, by its path in the checkpoint; None in those of release 0.1.
    """

    state: TrainingState
    options: dict[str, Any]
    data: dict[str, Any]
    files: dict[str, str] | None = None


def list_checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoints of a run, oldest first; those that something has happened to are among them."""
    folder = output_dir / "checkpoints"
    found = [(_NAME.fullmatch(path.name), path) for path in folder.glob("step-*") if path.is_dir()]
    return [path for _, path in sorted((int(match[1]), path) for match, path in found if match is not None)]


def save_checkpoint(parts: RunParts, output_dir: Path, content: Content, total_limit: int | None) -> Path:
    """Write a checkpoint beside its place, rename it, then remove the oldest beyond `total_limit`.

    Every process calls this; the first one writes.

    Args:
        parts: of the run.
        output_dir: of the run.
        content: what the checkpoint says beside their state.
        total_limit: number of checkpoints to keep.
    """
    path = output_dir / "checkpoints" / f"step-{content.state.step:06d}"
    partial = path.with_name(path.name + PARTIAL)
    on_main(parts.accelerator, lambda: start_partial(path))
    parts.save_engine(partial)
    trees = parts.collect()
    wait_for_processes()

    def write() -> None:
        for name, tree in trees.items():
            write_tree(partial / f"{name}.safetensors", tree)
        _write_content(partial, content)
        finish_partial(path)
        if total_limit is not None:
            for old in list_checkpoints(output_dir)[:-total_limit]:
                if old != path:  # later ones are there where the run continues from before them
                    shutil.rmtree(old)

    on_main(parts.accelerator, write)
    return path


def find_checkpoint(output_dir: Path, resume_from: str) -> Path | None:
    """The folder that `--resume_from_checkpoint` names: "latest", a name in OUT/checkpoints, or a path.

    For "latest" those that are damaged are passed over, which is said.

    Returns:
        None for "latest" when there is no checkpoint yet.

    Raises:
        UserError: if there is no checkpoint of that name, or none that is whole.
    """
    checkpoints = list_checkpoints(output_dir)
    if resume_from == "latest":
        damaged = None
        for path in reversed(checkpoints):
            try:
                verify_checkpoint(path)
                return path
            except DamagedCheckpoint as error:
                damaged = damaged or error
                print(f"{path} is damaged and passed over: {error.reason}.")
        if damaged is not None:
            raise damaged
        return None
    for path in (output_dir / "checkpoints" / resume_from, Path(resume_from)):
        if path.is_dir() and (path in checkpoints or (path / STATE_FILE).is_file()):
            verify_checkpoint(path)
            return path
    moved = output_dir / "checkpoints" / Path(resume_from).name
    if moved in checkpoints and not Path(resume_from).exists():
        print(f"{resume_from} is gone: taking {moved}.")
        verify_checkpoint(moved)
        return moved
    names = ", ".join(p.name for p in checkpoints) or "none"
    raise UserError(
        f"--resume_from_checkpoint {resume_from}: no checkpoint there; {output_dir / 'checkpoints'} has: {names}. "
        "Give one of them, a path, or 'latest'."
    )


def read_checkpoint(path: Path) -> Content:
    """What the checkpoint in a folder says.

    Raises:
        DamagedCheckpoint: if it says nothing that could be meant.
    """
    try:
        said = read_json_object(path / STATE_FILE)
        written = said.get("format", 1)
        if written not in range(1, FORMAT + 1):
            raise DamagedCheckpoint.of(path, f"its format is {written!r}, and this version knows 1 to {FORMAT}")
        state, options, data, files = (said.get(name) for name in ("state", "options", "data", "files"))
        if written > 1:
            own = said.pop("sha256", None)
            if own != _sha256_of(said):
                raise DamagedCheckpoint.of(path, f"the checksum of {STATE_FILE} differs")
        if not isinstance(options, dict) or not isinstance(data, dict if written > 1 else (dict, type(None))):
            raise DamagedCheckpoint.of(path, f"{STATE_FILE} holds no options or data")
        if written > 1 and not (isinstance(files, dict) and all(isinstance(value, str) for value in files.values())):
            raise DamagedCheckpoint.of(path, f"{STATE_FILE} holds no checksums")
        return Content(TrainingState.read(state), options, data or {}, files if written > 1 else None)
    except DamagedCheckpoint:
        raise
    except (UserError, ValueError) as error:
        raise DamagedCheckpoint.of(path, str(error)) from error
    except OSError as error:
        raise DamagedCheckpoint.of(path, f"{STATE_FILE} cannot be read ({error.strerror})") from error


def verify_checkpoint(path: Path) -> None:
    """Check every file of a checkpoint: its checksum, or of release 0.1 that it can be read.

    Raises:
        DamagedCheckpoint: for the first that is missing or damaged.
    """
    content = read_checkpoint(path)
    if content.files is None:
        read_states(path, content)
        return
    for name, expected in content.files.items():
        try:
            if sha256(_inside(path, name)) != expected:
                raise DamagedCheckpoint.of(path, f"the checksum of {name} differs")
        except OSError as error:
            raise DamagedCheckpoint.of(path, f"{name} cannot be read ({error.strerror})") from error


def read_states(path: Path, content: Content) -> Mapping[str, Any]:
    """The states of the parts of a run, by name.

    Raises:
        DamagedCheckpoint: if one cannot be read.
    """
    try:
        if content.files is None:
            return read_old(path, content.options)
        names = [name for name in content.files if name.endswith(".safetensors") and "/" not in name]
        return {name.removesuffix(".safetensors"): read_tree(path / name) for name in names}
    except OSError as error:
        name = Path(error.filename).name if error.filename else "a file"
        raise DamagedCheckpoint.of(path, f"{name} cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise DamagedCheckpoint.of(path, str(error)) from error


def stopped(failure: StepFailed, output_dir: Path, step: int) -> TrainingStopped:
    """The error that ends the run, with the last good checkpoint."""
    checkpoints = list_checkpoints(output_dir)
    where = f"the last good checkpoint is {checkpoints[-1]}" if checkpoints else "no checkpoint was written yet"
    return TrainingStopped(f"{failure} at step {step:,}: training stopped, {where}. {failure.remedy}.")


def _write_content(folder: Path, content: Content) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    said = {
        "format": FORMAT,
        "state": asdict(content.state),
        "options": content.options,
        "data": content.data,
        "files": {path.relative_to(folder).as_posix(): sha256(path) for path in files},
    }
    said = json.loads(json.dumps(said, allow_nan=False))  # as it will be read
    write_json(folder / STATE_FILE, {**said, "sha256": _sha256_of(said)})


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if ".." in path.parts or Path(name).is_absolute() or not path.is_file():
        raise FileNotFoundError(2, "No such file", name)
    return path


def _sha256_of(said: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
