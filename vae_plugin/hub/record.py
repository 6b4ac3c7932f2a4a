"""Facts about a training run beside its numbers: run.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from ..autoencoders.parts import PARTS
from ..errors import UserError
from ..files import write_json
from ..json_types import accepted, fits
from ..texts import read_json_object
from ..wording import shown
from .results import COSTS, METRICS

FILE_NAME = "run.json"
METRICS_FILE = "metrics.json"
Scalar = str | int | float | bool | None


@dataclass
class RunRecord:
    """Facts about a run for its card. Unknown facts are None, and the card omits them.

    Attributes:
        dataset: description of the training data.
        dataset_id: Hub id of the training data.
        split: description of the images that the metrics are measured on.
        train_images: number of training images.
        resolution: side of the images in pixels.
        crop: how they were cut, see `datasets.framing`.
        value_range: the values of the image files that became -1 and 1, where it was not their type that says so.
        part: trained part of the model: "all", "decoder" or "encoder".
        base_model: model that was fine-tuned: a Hub id, or the last component of a path.
        base_model_id: Hub id of that model.
        base_revision: its commit on the Hub.
        teacher: model whose latents were learnt.
        latent_space: of a fine-tune, what became of the latents that pipelines see: "moved", whether a denoiser is
            given other latents than before; "rescaled_only", whether that is by their scale alone; and what pipelines
            scale by ("scaling_factor", "shift_factor", "latents_mean", "latents_std", the batch norm of FLUX.2), each
            as {"was": ..., "is": ...}.
        latent_preview: "factors" and "bias" of the best picture of the latents by one matrix, with "r2" and "psnr", see
            `metrics.preview.LatentToRGB`.
        decoder: of a new decoder for the latents of the base model, its "block_out_channels", and "was", those of the
            base model's decoder; "device", on which both were measured.
        perceptual: names of the perceptual distances among the metrics, of a run with several.
        best: of the evaluations during training: "metric", "value", "step", and "is_result", whether the weights of
            that step are the result rather than the last ones.
        lab: Space with the lab of the model, user/name.
        license, license_name, license_link: licence, as on the Hub.
        command: command that repeats the run.
        options: options that differ from their defaults.
        pictures: caption -> path relative to the folder.
        device, num_processes, mixed_precision, seconds: circumstances of the training.
        versions: library -> version.
        commit: commit of the checkout that vae-plugin was run from.
    """

    dataset: str | None = None
    dataset_id: str | None = None
    split: str | None = None
    train_images: int | None = None
    resolution: int | None = None
    crop: str | None = None
    value_range: list[float] | None = None
    part: str = "all"
    base_model: str | None = None
    base_model_id: str | None = None
    base_revision: str | None = None
    teacher: str | None = None
    latent_space: dict[str, Any] = field(default_factory=dict)
    latent_preview: dict[str, Any] = field(default_factory=dict)
    decoder: dict[str, Any] = field(default_factory=dict)
    perceptual: list[str] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    lab: str | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    command: str | None = None
    options: dict[str, Scalar | list[Scalar]] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)
    device: str | None = None
    num_processes: int | None = None
    mixed_precision: str | None = None
    seconds: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None

    def save(self, folder: Path) -> None:
        """Write FOLDER/run.json."""
        write_json(folder / FILE_NAME, {k: v for k, v in asdict(self).items() if v not in (None, {}, [])})

    @classmethod
    def load(cls, folder: Path) -> RunRecord:
        """Read FOLDER/run.json; without that file all facts are unknown.

        Raises:
            UserError: if the file has other content than `save` writes.
        """
        path = folder / FILE_NAME
        content = {name: value for name, value in _read(path).items() if value is not None}
        hints = get_type_hints(cls)
        if unknown := content.keys() - {f.name for f in fields(cls)}:
            raise UserError(f"{path} has unknown entries {', '.join(sorted(map(repr, unknown)))}: remove them.")
        for name, value in content.items():
            _check(value, hints[name], f"{path}: {name}")
        record = cls(**content)
        if record.part not in PARTS:
            raise UserError(f"{path}: part is {record.part!r}: it must be one of {', '.join(PARTS)}.")
        if record.value_range is not None and len(record.value_range) != 2:
            raise UserError(f"{path}: value_range is {shown(record.value_range)}: it must be two numbers.")
        if record.latent_preview and not _is_preview(record.latent_preview):
            raise UserError(f"{path}: latent_preview is no matrix of three columns with a bias: correct or remove it.")
        return record


def read_metrics(folder: Path) -> dict[str, Any]:
    """The numbers in FOLDER/metrics.json; none without that file.

    Raises:
        UserError: if the file is not a JSON object, or a metric that cards show is no number.
    """
    path = folder / METRICS_FILE
    content = _read(path)
    others = ("num_images", "steps", "images_per_second")
    gains = ("psnr_gain", "psnr_gain_ci95", "clip_psnr_gain", "clip_psnr_gain_ci95")
    spread = ("psnr_std", "psnr_worst", "psnr_median", "psnr_best")
    shown = (*METRICS, *COSTS)
    for name in (*shown, *(f"base_{name}" for name in shown), *others, *gains, *spread):
        _check(content.get(name), float | None, f"{path}: {name}")
    return content


def _read(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.exists() else {}


def _is_preview(preview: dict[str, Any]) -> bool:
    factors = preview.get("factors")
    rows = [*factors, preview.get("bias")] if fits(factors, list) and factors else [None]
    return all(isinstance(row, list) and fits(row, list[float]) and len(row) == 3 for row in rows)


def _check(value: Any, annotation: Any, name: str) -> None:
    """Refuse a value of another type, and numbers that are not finite.

    Raises:
        UserError: that names it.
    """
    if not fits(value, annotation):
        raise UserError(f"{name} is {shown(value)}: it must be {accepted(annotation)}. Correct it, or remove the file.")
