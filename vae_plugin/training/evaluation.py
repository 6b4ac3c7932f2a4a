"""Measuring the model of a run on the images held out, and the model that it began as on the same ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..errors import NotFiniteError, UserError
from ..files import write_json
from ..json_types import fits
from ..metrics import evaluate
from ..metrics.evaluation import Evaluation
from ..metrics.interval import half_width_95
from ..texts import read_json_object
from .data import TrainingData
from .failures import LOWER_RATE, StepFailed, writing
from .losses import TrainingLoss

COMPARED = (
    "psnr", "ssim", "perceptual", "elbo_nats", "bits_per_dim", "bits_per_dim_bound", "kl_nats", "codebook_usage",
    "codebook_perplexity",
)  # fmt: skip


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
    def measures(self) -> set[str]:
        """Names of the metrics that may decide which weights are best."""
        adapter = self.loss.adapter
        of_likelihood = ("elbo_nats",) if adapter.likelihood is not None else ()
        of_codebook = ("codebook_perplexity",) if adapter.discrete else ()
        return {"psnr", "ssim", *of_likelihood, *of_codebook, *self.loss.measures}

    def measure(self, remedy: str = LOWER_RATE) -> Evaluation:
        """The metrics over the images held out; every process calls this, and gets all of it.

        Args:
            remedy: what may help where the model gives what is no number.

        Raises:
            StepFailed: if it does.
        """
        try:
            return evaluate(
                self.loss.adapter,
                self.data.validation_images(),
                seed=self.seed,
                reconstruct=self.loss.reconstruct,
                compare=self.loss.compare,
                shared=True,
            )
        except NotFiniteError as error:
            raise StepFailed(error.reason, remedy) from error


def save_base(evaluation: Evaluation, path: Path) -> None:
    """Keep what was measured of a model before its first step, for `compare_with_base`."""
    with writing("the measures of the model before its first step", path):
        write_json(path, {"metrics": evaluation, "psnr": evaluation.per_image["psnr"]})


def compare_with_base(evaluation: Evaluation, path: Path) -> dict[str, Any]:
    """The metrics of the base model, to stand beside those of the result.

    Args:
        evaluation: of the result.
        path: of what `save_base` wrote; without it, or with other images, there is nothing to compare.

    Returns:
        "base_NAME" for the metrics of the base model; "psnr_gain", the mean over images of the difference in PSNR, and
        "psnr_gain_ci95", half the width of its 95 % confidence interval by Student's t, both in dB.
    """
    if not path.exists():
        return {}
    base = read_json_object(path)
    psnr, psnr_then, then = evaluation.per_image["psnr"], base.get("psnr"), base.get("metrics")
    if not isinstance(then, dict) or not isinstance(psnr_then, list) or not fits(psnr_then, list[float]):
        raise UserError(f"{path} does not hold the measures of a model: remove it, and the run goes on without them.")
    if len(psnr_then) != len(psnr):
        return {}
    common = evaluation.keys() & {name for name, value in then.items() if fits(value, float)}
    result = {f"base_{name}": then[name] for name in COMPARED if name in common}  # 0.1 had others of the same name
    gain = torch.tensor(psnr, dtype=torch.float64) - torch.tensor(
        [float(value) for value in psnr_then], dtype=torch.float64
    )
    result["psnr_gain"] = gain.mean().item()
    if len(gain) > 1:
        result["psnr_gain_ci95"] = half_width_95(gain)
    return result
