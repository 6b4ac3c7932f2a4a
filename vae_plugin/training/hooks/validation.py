"""Evaluations during training: numbers, pictures, and the best weights so far."""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator

from ...files import replacing_folder, write_json
from ...metrics import Evaluation
from ..average import WeightAverage
from ..best import FOLDER
from ..evaluation import Evaluator
from ..failures import writing
from ..main_process import on_main
from ..pictures import SamplePictures, log_pictures
from ..progress import Stopwatch
from ..result import save_model
from ..state import TrainingState
from .base import Hook, Step


class ValidationHook(Hook):
    """Evaluates on all processes, with the averaged weights where there are any; the main one draws and writes.

    Args:
        accelerator: of the run.
        state: of the run; it keeps the best evaluation.
        evaluator: of the model.
        pictures: of the model.
        average: of the weights.
        output_dir: of the run; OUT/best gets the weights of the best evaluation.
        stopwatch: of training, which stops meanwhile.
        every: steps between two evaluations.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        state: TrainingState,
        evaluator: Evaluator,
        pictures: SamplePictures,
        average: WeightAverage,
        output_dir: Path,
        stopwatch: Stopwatch,
        every: int | None,
    ) -> None:
        super().__init__(every)
        self.accelerator, self.state, self.evaluator, self.pictures = accelerator, state, evaluator, pictures
        self.average, self.output_dir, self.stopwatch = average, output_dir, stopwatch

    def act(self, step: Step) -> None:
        """Measure, draw, and keep the weights if they are the best."""
        with self.stopwatch, self.average.applied():
            metrics = self.evaluator.measure()
            is_best = self.state.best.improves(metrics[self.state.best.metric or "psnr"], step.number)
            on_main(self.accelerator, lambda: self._write(metrics, is_best, step.number))

    def _write(self, metrics: Evaluation, is_best: bool, step: int) -> None:
        paths = self.pictures.save(self.output_dir, f"step-{step:06d}-")
        best = self.output_dir / FOLDER
        if is_best:
            with writing("the best model", best), replacing_folder(best) as staging:
                save_model(self.evaluator.loss.adapter, staging)
                write_json(staging / "metrics.json", {**metrics, "steps": step})
        self.accelerator.log({f"validation/{name}": value for name, value in metrics.items()}, step=step)
        named = {Path(path).stem.split("-", 2)[2]: self.output_dir / path for path in paths.values()}
        log_pictures(self.accelerator, named, step)
