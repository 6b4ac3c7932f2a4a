"""The evaluation that a run has done best in, and which metric decides."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ..errors import UserError
from ..wording import shown

HIGHER_IS_BETTER = {
    "psnr": True,
    "ssim": True,
    "perceptual": False,
    "elbo_nats": True,
    "log_likelihood_nats": True,
    "psnr_to_teacher": True,
    "composited_psnr": True,
    "latent_mse": False,
    "codebook_perplexity": True,
}
FOLDER = "best"


def higher_is_better(metric: str) -> bool:
    """Whether a metric is better where it is higher. Those that are not in the table are perceptual distances."""
    return HIGHER_IS_BETTER.get(metric, False)


@dataclass
class Best:
    """The best evaluation so far; a checkpoint holds it.

    Attributes:
        metric: that decides; None before it is settled.
        value: of it; None before the first evaluation.
        step: of the evaluation, likewise.
    """

    metric: str | None = None
    value: float | None = None
    step: int | None = None

    def settle(self, given: str | None, measured: Collection[str]) -> None:
        """Set the metric: the one given, or that of the checkpoint, or a perceptual distance, or "psnr".

        Args:
            given: by the user, if it was.
            measured: names of the metrics that an evaluation has. Those that `HIGHER_IS_BETTER` lacks are perceptual
                distances; the first decides where there is no single one, "perceptual".

        Raises:
            UserError: if the one given is not among them.
        """
        own = [name for name in measured if name not in HIGHER_IS_BETTER]
        if given is not None and given not in measured:
            known = ", ".join([*(name for name in HIGHER_IS_BETTER if name in measured), *own])
            raise UserError(f"--best_metric {shown(given)} is not measured in this run: give one of {known}.")
        usual = "perceptual" if "perceptual" in measured else next(iter(own), "psnr")
        metric = given or (self.metric if self.metric in measured else usual)
        if metric != self.metric:
            self.metric, self.value, self.step = metric, None, None

    def improves(self, value: float, step: int) -> bool:
        """Take the value of an evaluation; returns whether it is the best so far."""
        assert self.metric is not None
        sign = 1 if higher_is_better(self.metric) else -1
        if self.value is not None and sign * value <= sign * self.value:
            return False
        self.value, self.step = value, step
        return True

    def facts(self, is_result: bool) -> dict[str, Any]:
        """What run.json tells of it; nothing before the first evaluation."""
        if self.step is None:
            return {}
        return {"metric": self.metric, "value": self.value, "step": self.step, "is_result": is_result}
