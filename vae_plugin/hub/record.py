"""What is told of a training run, beside its numbers: run.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import write_json

FILE_NAME = "run.json"


@dataclass
class RunRecord:
    """Facts about a run that its card tells. What is not known is None and stands in no card.

    Attributes:
        dataset: what was trained on, in words.
        dataset_id: its id, if it is a data set on the Hub.
        split: the images that the numbers are measured on, in words.
        train_images: how many images it was trained on.
        resolution: their side in pixels.
        part: what of the model was trained: "all", "decoder" or "encoder".
        base_model: what it was fine-tuned from, a Hub id or the last name of a folder.
        base_model_id: the same, if it is on the Hub.
        base_revision: its commit there.
        teacher: whose latents it has learnt.
        license, license_name, license_link: as on the Hub.
        command: repeats the run.
        options: those that differ from the defaults.
        pictures: caption -> path relative to the folder.
        device, num_processes, mixed_precision, seconds: how it was trained.
        versions: of the libraries.
        commit: of the repository that the plugin was run from.
    """

    dataset: str | None = None
    dataset_id: str | None = None
    split: str | None = None
    train_images: int | None = None
    resolution: int | None = None
    part: str = "all"
    base_model: str | None = None
    base_model_id: str | None = None
    base_revision: str | None = None
    teacher: str | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    command: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)
    device: str | None = None
    num_processes: int | None = None
    mixed_precision: str | None = None
    seconds: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None

    def save(self, folder: Path) -> None:
        """Write FOLDER/run.json."""
        write_json(folder / FILE_NAME, {k: v for k, v in asdict(self).items() if v not in (None, {})})

    @classmethod
    def load(cls, folder: Path) -> RunRecord:
        """Read FOLDER/run.json; one that knows nothing where there is none.

        Raises:
            UserError: if it is not what `save` writes.
        """
        content = read_json(folder / FILE_NAME)
        known = {f.name for f in fields(cls)}
        if unknown := content.keys() - known:
            raise UserError(f"{folder / FILE_NAME} has {', '.join(sorted(unknown))}: that is not of a training run.")
        return cls(**content)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is no file.

    Raises:
        UserError: if it is something else.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}. Write it again, or remove it.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object: write it again, or remove it.")
    return content
