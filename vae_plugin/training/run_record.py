"""What a run's card tells beside its numbers: where the model came from, what it was shown, how to repeat it."""

from __future__ import annotations

import dataclasses
import platform
import shlex
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from huggingface_hub import hf_hub_download, try_to_load_from_cache

from .. import hub
from ..errors import UserError
from ..hub.folder import is_local, public_name
from ..hub.merging import LICENSE_KEYS, split
from .finetune_options import FinetuneOptions
from .option_groups import HUB_OPTIONS

LIBRARIES = ("vae-plugin", "torch", "diffusers", "accelerate")
NOT_TOLD = (*HUB_OPTIONS, "output_dir", "resume_from_checkpoint", "report_to", "dataloader_num_workers", "revision")
PATHS = ("pretrained_model_name_or_path", "train_data_dir", "dataset_name", "teacher", "model_config")


def run_record(
    options: FinetuneOptions,
    accelerator: Accelerator,
    *,
    train_images: int | None = None,
    pictures: dict[str, str] | None = None,
    seconds: float | None = None,
) -> hub.RunRecord:
    """The record of a run.

    Args:
        options: of the run.
        accelerator: for the processes and the precision.
        train_images: how many it was trained on.
        pictures: caption -> path relative to the output folder.
        seconds: that training took.
    """
    base, circles = options.pretrained_model_name_or_path, options.dataset_name == "circles"
    on_hub = base is not None and not is_local(base)
    data_on_hub = options.dataset_name is not None and not circles and not is_local(options.dataset_name)
    revision = _commit_in_cache(options) if on_hub else None
    licence = {"license": options.license} if options.license else _license_of_base(options, revision)
    given = _given(options, accelerator)
    return hub.RunRecord(
        dataset="generated circles" if circles else options.dataset_name if data_on_hub else "a folder of images",
        dataset_id=options.dataset_name if data_on_hub else None,
        split="held out of training",
        train_images=train_images,
        resolution=options.resolution,
        part=options.train,
        base_model=public_name(base),
        base_model_id=base if on_hub else None,
        base_revision=revision,
        teacher=public_name(options.teacher),
        **licence,
        command=_command(given, accelerator.num_processes),
        options=given,
        pictures=dict(pictures or {}),
        device=accelerator.device.type,
        num_processes=accelerator.num_processes,
        mixed_precision=accelerator.mixed_precision,
        seconds=seconds,
        versions={"python": platform.python_version(), **_versions()},
        commit=_commit_of_plugin(),
    )


def _given(options: FinetuneOptions, accelerator: Accelerator) -> dict[str, Any]:
    """The options that differ from their defaults, without this machine's paths."""
    told: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name in PATHS:
            value = public_name(value)
        if field.name not in NOT_TOLD and value != field.default:
            told[field.name] = list(value) if isinstance(value, tuple) else value
    if options.revision is not None:
        told["revision"] = options.revision
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


def _commit_in_cache(options: FinetuneOptions) -> str | None:
    """The commit of the base model that was loaded: that of its config.json in the client's cache."""
    name = f"{options.subfolder}/config.json" if options.subfolder else "config.json"
    path = try_to_load_from_cache(options.pretrained_model_name_or_path, name, revision=options.revision or "main")
    if not isinstance(path, str):
        return None
    parts = Path(path).parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None


def _license_of_base(options: FinetuneOptions, revision: str | None) -> dict[str, str]:
    """The licence that the card of the base model gives, if it has one and can be read now."""
    base = options.pretrained_model_name_or_path
    if base is None:
        return {}
    try:
        path = Path(base) / "README.md" if is_local(base) else hf_hub_download(base, "README.md", revision=revision)
        data, _ = split(Path(path).read_text(encoding="utf-8"))
    except (OSError, UserError, ValueError, RuntimeError):  # no card, or nobody to give it: then nothing is inherited
        return {}
    return {key: data[key] for key in LICENSE_KEYS if isinstance(data.get(key), str)}


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


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
