"""The curves of a run: a line of JSON for every step, the tracker, and the progress bar."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from accelerate import Accelerator

from ...files import json_text, write_text
from ..failures import writing
from ..progress import Progress, Stopwatch
from ..state import TrainingState
from .base import Hook, Step

SMALLEST_MSE = 1e-10


class LogHook(Hook):
    """Logs every step.

    Args:
        accelerator: of the run.
        state: of the run.
        path: of the curves, OUT/logs/train.jsonl.
        progress: of the run.
        stopwatch: of training.
        learning_rate: gives that of the next step.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        state: TrainingState,
        path: Path,
        progress: Progress,
        stopwatch: Stopwatch,
        learning_rate: Callable[[], float],
    ) -> None:
        super().__init__(1)
        self.accelerator, self.state, self.progress, self.stopwatch = accelerator, state, progress, stopwatch
        self.learning_rate = learning_rate
        self.path = path
        self.first_timed_image = state.images - state.timed_images
        self.curves = CurveLog(path, state.step) if accelerator.is_main_process else None

    def act(self, step: Step) -> None:
        """Time the step, and log its terms, with "psnr" (dB) in place of "mse", and "learning_rate"."""
        state = self.state
        state.seconds, state.timed_images = self.stopwatch.seconds, state.images - self.first_timed_image
        terms = dict(step.terms)
        psnr = 10 * math.log10(4 / max(terms.pop("mse"), SMALLEST_MSE))
        values = {**terms, "psnr": psnr, "learning_rate": self.learning_rate()}
        with writing("the curves", self.path):
            self.accelerator.log(values, step=step.number)
            if self.curves is not None:
                self.curves.log(step.number - 1, values)
        shown = {"loss": f"{terms['loss']:.4f}", "psnr": f"{psnr:.1f}"}
        if "elbo_nats" in terms:
            shown["elbo"] = f"{terms['elbo_nats']:.1f}"
        self.progress.step({**shown, "img_s": f"{state.images_per_second or 0:.3g}"})

    def close(self) -> None:
        """End the curves and the progress."""
        self.progress.close()
        if self.curves is not None:
            self.curves.close()


class CurveLog:
    """A file of JSON lines.

    Args:
        path: the file.
        first_step: lines of this step and later ones, left by a run that is continued from before them, are removed,
            and so is what a crash left of a line.
    """

    def __init__(self, path: Path, first_step: int) -> None:
        lines = path.read_bytes().decode("utf-8", "replace").splitlines() if path.is_file() else []
        kept = [line for line in lines if (step := _step_of(line)) is not None and step < first_step]
        write_text(path, "".join(line + "\n" for line in kept))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open for as long as the run lasts

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append the values of a step; null stands for what is no finite number, which JSON lacks."""
        known = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json_text({"step": step, **known}, "a line of the curves") + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _step_of(line: str) -> float | None:
    """The step of a line; None for one that was cut or written by hand."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return step if isinstance(step, (int, float)) else None
