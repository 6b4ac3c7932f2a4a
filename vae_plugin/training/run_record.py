"""What the card of a run tells beside its numbers: the origin of the model, its data, and how to repeat the run."""

from __future__ import annotations

import dataclasses
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from huggingface_hub import hf_hub_download, try_to_load_from_cache

from .. import hub
from ..errors import UserError
from ..hub.front_matter import split
from ..hub.merging import LICENSE_KEYS
from ..hub.paths import is_local, public_name, without_paths
from ..options import options_of
from ..texts import read_text
from ..version import library_versions
from .latent_space import LatentSpace
from .settings import DataSettings, FinetuneOptions, HubSettings, ModelSettings

NOT_TOLD = (
    *(f.name for f in dataclasses.fields(HubSettings)),
    "output_dir",
    "resume_from_checkpoint",
    "report_to",
    "dataloader_num_workers",
    "revision",
)
PATHS = {name for name, option in options_of(FinetuneOptions).items() if option.declaration.path}


class Recorder:
    """Collects what the card of a run tells.

    Args:
        model: settings of the model.
        data: settings of the data, with the resolution of the run.
        license: of the weights, where it was given.
        given: the options that were given, by name.
        accelerator: for the processes and the precision.
        train_images: how many images the run trains on; None of a stream.
        latents: of a fine-tune; None of a new model.
        decoder: `RunRecord.decoder`.
        perceptual: `RunRecord.perceptual`.
    """

    def __init__(
        self,
        model: ModelSettings,
        data: DataSettings,
        license: str | None,
        given: Mapping[str, Any],
        accelerator: Accelerator,
        train_images: int | None,
        latents: LatentSpace | None,
        decoder: Mapping[str, Any],
        perceptual: Sequence[str] = (),
    ) -> None:
        self.latents = latents
        base = model.base
        on_hub = base is not None and not is_local(base)
        dataset_id = None if data.circles or is_local(data.dataset_name) else data.dataset_name
        revision = _commit_in_cache(model) if on_hub else None
        told = _told(given, accelerator)
        self._facts: dict[str, Any] = {
            "dataset": "generated circles" if data.circles else dataset_id or _local_name(data),
            "dataset_id": dataset_id,
            "split": _measured_on(data),
            "train_images": train_images,
            "resolution": data.resolution,
            "crop": None if data.circles or data.from_python else data.crop,
            "value_range": list(data.value_range) if data.value_range else None,
            "part": model.train,
            "base_model": public_name(base),
            "base_model_id": base if on_hub else None,
            "base_revision": revision,
            "teacher": public_name(model.teacher) if model.distils else None,
            "decoder": dict(decoder),
            "perceptual": list(perceptual),
            **({"license": license} if license else _license_of_base(base, revision)),
            "command": None if data.from_python else _command(told, accelerator.num_processes),
            "options": told,
            "device": accelerator.device.type,
            "num_processes": accelerator.num_processes,
            "mixed_precision": accelerator.mixed_precision,
            "versions": {"python": platform.python_version(), **library_versions()},
            "commit": _commit_of_plugin(),
        }

    def record(
        self,
        pictures: Mapping[str, str] | None = None,
        seconds: float | None = None,
        best: Mapping[str, Any] | None = None,
        preview: Mapping[str, Any] | None = None,
    ) -> hub.RunRecord:
        """The record of the run.

        Args:
            pictures: caption -> path relative to the output folder.
            seconds: that training took.
            best: evaluation during training, see `Best.facts`.
            preview: of the latents, see `latent_preview`.
        """
        space = {} if self.latents is None else self.latents.facts()
        return hub.RunRecord(
            **self._facts,
            latent_space=space,
            latent_preview=dict(preview or {}),
            pictures=dict(pictures or {}),
            seconds=seconds,
            best=dict(best or {}),
        )


def _measured_on(data: DataSettings) -> str:
    """Which images the metrics are measured on."""
    if "validation_dataset" in data.from_python:
        return "a validation set given from Python"
    if data.validation_data_dir is not None:
        names = public_name(data.validation_data_dir)
        return f"validation set {' and '.join(names)}"
    return "held out of training" if data.validation_split is None else f"split {data.validation_split}"


def _local_name(data: DataSettings) -> str:
    """The name of the folder or file of images, without where it is."""
    if data.from_python:
        return "a data set given from Python"
    name = public_name(data.train_data_dir or data.dataset_name)
    name = " and ".join(name) if isinstance(name, (list, tuple)) else name
    return f"{name} (local images)" if name else "a folder of images"


def _told(given: Mapping[str, Any], accelerator: Accelerator) -> dict[str, Any]:
    """The options that were given, without the paths of this machine."""
    told = {}
    for name, value in given.items():
        if name in NOT_TOLD:
            continue
        value = without_paths(public_name(value) if name in PATHS else value)
        told[name] = list(value) if isinstance(value, tuple) else value
    if given.get("revision") is not None:
        told["revision"] = given["revision"]
    if accelerator.mixed_precision != "no":
        told["mixed_precision"] = accelerator.mixed_precision
    return told


def _command(given: dict[str, Any], num_processes: int) -> str:
    launch = ["vae-plugin", "finetune"]
    if num_processes > 1:
        launch = ["accelerate", "launch", "--num_processes", str(num_processes), "-m", "vae_plugin.finetune"]
    words = []
    for name, value in given.items():
        if isinstance(value, bool):
            words.append([f"--{name}" if value else f"--no_{name}"])
        else:
            words.append([f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])])
    return " \\\n    ".join(map(shlex.join, [launch, *words, ["--output_dir", "out"]]))


def _commit_in_cache(model: ModelSettings) -> str | None:
    """The commit of the base model that was loaded: that of its (or its pipeline's) config in the client's cache."""
    inside = model.base_subfolder
    names = [f"{inside}/config.json"] if inside else ["config.json", "model_index.json"]
    base, revision = model.base, model.revision or "main"
    assert base is not None
    found = (try_to_load_from_cache(base, name, revision=revision) for name in names)
    path = next((path for path in found if isinstance(path, str)), None)
    if path is None:
        return None
    parts = Path(path).parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None


def _license_of_base(base: str | None, revision: str | None) -> dict[str, str]:
    """The licence in the card of the base model, if it has one and can be read now."""
    if base is None:
        return {}
    try:
        path = Path(base) / "README.md" if is_local(base) else hf_hub_download(base, "README.md", revision=revision)
        data, _ = split(read_text(path))
    except (OSError, UserError, ValueError, RuntimeError):  # no card, or out of reach: nothing is inherited
        return {}
    return {key: data[key] for key in LICENSE_KEYS if isinstance(data.get(key), str)}


def _commit_of_plugin() -> str | None:
    """The commit of the clone that the plugin runs from, if it is one and nothing in it was changed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        changed = subprocess.run(
            ["git", "-C", root, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=10,
        )
        head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() or None if head.returncode == 0 and not changed.stdout.strip() else None
