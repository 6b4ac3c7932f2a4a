"""Measuring the model of a run on the images held out, and the model that it began as on the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from ..autoencoders import Adapter
from ..errors import NotFiniteError, UserError
from ..files import write_json
from ..json_types import fits
from ..metrics import evaluate
from ..metrics.clips import CLIPS
from ..metrics.decoding import lent
from ..metrics.evaluation import Evaluation
from ..metrics.interval import half_width_95
from ..texts import read_json_object
from .data import TrainingData
from .failures import LOWER_RATE, StepFailed, writing
from .losses import TrainingLoss

COMPARED = (
    "psnr", "ssim", "perceptual", "elbo_nats", "log_likelihood_nats", "bits_per_dim", "bits_per_dim_bound", "kl_nats",
    "codebook_usage", "codebook_perplexity", "clip_psnr", "composited_psnr",
)  # fmt: skip
PAIRED = ("psnr", "clip_psnr")  # compared image by image


class Evaluator:
    """Measures a model as its loss sees it, on all processes together.

    Args:
        loss: of the model.
        data: of the run.
        seed: of the samples of q(z|x).
    """

    def __init__(self, loss: TrainingLoss, data: TrainingData, seed: int) -> None:
        self.loss, self.data, self.seed = loss, data, seed

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the metrics that may decide which weights are best; perceptual distances in their order."""
        adapter = self.loss.adapter
        of_likelihood = ("elbo_nats",) if adapter.likelihood is not None else ()
        of_samples = ("log_likelihood_nats",) if self.loss.num_importance_samples else ()
        of_codebook = ("codebook_perplexity",) if adapter.discrete else ()
        return ("psnr", "ssim", *of_likelihood, *of_samples, *of_codebook, *self.loss.measures)

    def measure(self, remedy: str = LOWER_RATE, clips: bool = False, base: Adapter | None = None) -> Evaluation:
        """The metrics over the images held out; every process calls this, and gets all of it.

        Args:
            remedy: what may help where the model gives what is no number.
            clips: whether short clips are measured too, of a class of videos.
            base: of another model, that is measured instead.

        Raises:
            StepFailed: if it does.
        """
        try:
            with on_device_of(self.loss.adapter, base):
                return evaluate(
                    base or self.loss.adapter,
                    self.data.validation_images(),
                    num_importance_samples=self.loss.num_importance_samples,
                    seed=self.seed,
                    reconstruct=(base or self.loss).reconstruct,
                    compare=self.loss.compare,
                    shared=True,
                    clips=CLIPS if clips else 0,
                )
        except NotFiniteError as error:
            raise StepFailed(error.reason, remedy) from error


def on_device_of(adapter: Adapter, base: Adapter | None) -> AbstractContextManager[None]:
    """Another model, if there is one, on the device of this one for the time of the block."""
    return nullcontext() if base is None else lent(base.model, adapter.model.device)


def save_base(evaluation: Evaluation, path: Path) -> None:
    """Keep what was measured of a model before its first step, for `compare_with_base`."""
    paired = {name: evaluation.per_image[name] for name in PAIRED if name in evaluation.per_image}
    with writing("the measures of the model before its first step", path):
        write_json(path, {"metrics": evaluation, **paired})


def compare_with_base(evaluation: Evaluation, path: Path, perceptual: Sequence[str] = ()) -> dict[str, Any]:
    """The metrics of the base model, to stand beside those of the result.

    Args:
        evaluation: of the result.
        path: of what `save_base` wrote; without it, or with other images, there is nothing to compare.
        perceptual: names of the perceptual distances.

    Returns:
        "base_NAME" for the metrics of the base model; "psnr_gain", the mean over images of the difference in PSNR, and
        "psnr_gain_ci95", half the width of its 95 % confidence interval by Student's t, both in dB; "clip_psnr_gain"
        and "clip_psnr_gain_ci95" likewise of the clips, where they were measured.
    """
    if not path.exists():
        return {}
    base = read_json_object(path)
    then = base.get("metrics")
    values_then = {name: base[name] for name in PAIRED if name in base}
    if not isinstance(then, dict) or "psnr" not in values_then or not fits(values_then, dict[str, list[float]]):
        raise UserError(f"{path} does not hold the measures of a model: remove it, and the run goes on without them.")
    if len(values_then["psnr"]) != len(evaluation.per_image["psnr"]):
        return {}
    common = evaluation.keys() & {name for name, value in then.items() if fits(value, float)}
    result = {f"base_{name}": then[name] for name in (*COMPARED, *perceptual) if name in common}  # 0.1 had others
    for name, values in values_then.items():
        result |= _gain(name, evaluation.per_image.get(name, []), values)
    return result


def _gain(name: str, now: list[float], then: list[float]) -> dict[str, float]:
    """The mean of the differences and its interval; nothing of values that are not of the same images."""
    if len(now) != len(then) or not now:
        return {}
    gain = torch.tensor(now, dtype=torch.float64) - torch.tensor([float(v) for v in then], dtype=torch.float64)
    interval = {f"{name}_gain_ci95": half_width_95(gain)} if len(gain) > 1 else {}
    return {f"{name}_gain": gain.mean().item(), **interval}
