"""What a checkpoint holds of a run: the state of its parts, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object

from .average import WeightAverage
from .random_state import random_state, restore_random_state
from .trainee import Trainee

ENGINE = "pytorch_model"  # name of DeepSpeed's own files, in a folder of it: weights and optimiser
NEEDED = {
    "optimizer": ("state", "param_groups"),
    "scheduler": ("base_lrs", "last_epoch", "_last_lr"),
    "average": ("shadow_params", "optimization_step"),
    "scaler": ("scale",),
}  # what is there in every version of torch
MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "grad_avg", "sum")
ERRORS = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


class StateMismatch(ValueError):
    """A stored state does not fit the part of the run that it is for."""


class RunParts:
    """The parts of a run that have a state.

    Args:
        accelerator: of the run.
        trainees: the modules that are trained, in order.
        average: of the weights of the first.
    """

    def __init__(self, accelerator: Accelerator, trainees: Sequence[Trainee], average: WeightAverage) -> None:
        self.accelerator, self.trainees, self.average = accelerator, trainees, average
        self.by_engine = accelerator.distributed_type == DistributedType.DEEPSPEED

    def collect(self) -> dict[str, Any]:
        """The states by name, on every process: each knows its own random numbers."""
        accelerator = self.accelerator
        trees = {name: part.state_dict() for name, part in self._parts()}
        for name in trees:
            if name.startswith("model"):  # plain weights, which any reader of safetensors takes as they are
                trees[name] = {key: value.contiguous() for key, value in trees[name].items()}
        trees["random_states"] = gather_object([random_state(accelerator.device)])
        return trees

    def restore(self, trees: Mapping[str, Any]) -> None:
        """Set the states that `collect` gave.

        Raises:
            StateMismatch: if one is missing or does not fit.
        """
        for name, part in self._parts():
            if name == "scaler" and name not in trees:  # the run had another precision until here
                continue
            if name not in trees:
                raise StateMismatch(f"it has no state of the {name}")
            try:
                _check(trees[name], part, name)
                part.load_state_dict(trees[name])
            except ERRORS as error:
                raise StateMismatch(f"the state of the {name} does not fit: {_first_line(error)}") from error
        self.average.to(self.accelerator.device)
        rank, states = self.accelerator.process_index, trees.get("random_states")
        if not isinstance(states, list) or not states:
            raise StateMismatch("it has no state of the random numbers")
        try:
            if rank < len(states):  # else there are more processes now, and this one keeps its seed
                restore_random_state(states[rank], self.accelerator.device)
        except ERRORS as error:
            raise StateMismatch(_first_line(error)) from error

    def save_engine(self, folder: Path) -> None:
        """Let DeepSpeed write its own files; every process calls this."""
        if self.by_engine:
            self.trainees[0].module.save_checkpoint(str(folder), ENGINE)

    def load_engine(self, folder: Path) -> None:
        """Let DeepSpeed read its own files.

        Raises:
            StateMismatch: if they were written by DeepSpeed and this run is without it, or the reverse.
        """
        if (folder / ENGINE).is_dir() != self.by_engine:
            words = ("without", "with") if self.by_engine else ("with", "without")
            raise StateMismatch(f"it was written {words[0]} DeepSpeed, and this run is {words[1]} it")
        if self.by_engine:
            self.accelerator.print(
                f"{folder / ENGINE} holds DeepSpeed's own files, which are pickles: opening them runs whatever code "
                "they hold. Continue only from a checkpoint of your own."
            )
            self.trainees[0].module.load_checkpoint(str(folder), ENGINE)

    def _parts(self) -> Iterator[tuple[str, Any]]:
        for i, trainee in enumerate(self.trainees):
            ending = f"_{i}" if i else ""
            if not self.by_engine:
                yield f"model{ending}", self.accelerator.unwrap_model(trainee.module)
                yield f"optimizer{ending}", trainee.optimizer
            yield f"scheduler{ending}", trainee.scheduler
        if self.average.ema is not None:
            yield "average", self.average.ema
        if self.accelerator.scaler is not None:
            yield "scaler", self.accelerator.scaler


def _check(state: Any, part: Any, name: str) -> None:
    """Reject what `load_state_dict` would take, and a later step fail on.

    An optimiser has no state before its first step, so that the shapes are those of its parameters; of the optimisers
    of other packages nobody knows them.
    """
    if not isinstance(state, dict):
        raise TypeError("it is no dict")
    missing = [key for key in NEEDED.get(name.partition("_")[0], ()) if key not in state]
    if missing:
        raise ValueError(f"it has no {missing[0]}")
    if name.startswith("optimizer"):
        known = type(part.optimizer).__module__.startswith("torch.optim.")
        parameters = [p for group in part.param_groups for p in group["params"]]
        for number, values in state["state"].items():
            for key, value in values.items():
                moment = known and isinstance(value, torch.Tensor) and key in MOMENTS
                if moment and value.shape != parameters[number].shape:
                    raise ValueError(f"{key} {number} is {tuple(value.shape)}")
                if not moment and key == "step" and not isinstance(value, (torch.Tensor, int, float)):
                    raise TypeError(f"{key} {number} is {type(value).__name__}")
    elif not name.startswith("model"):
        own = part.state_dict()
        for key, value in own.items():
            if key in state and not _alike(state[key], value):
                raise ValueError(f"{key} is {type(state[key]).__name__}")


def _alike(one: Any, other: Any) -> bool:
    if isinstance(other, torch.Tensor):
        return isinstance(one, torch.Tensor) and one.shape == other.shape
    if isinstance(other, (list, tuple)):
        return isinstance(one, (list, tuple)) and len(one) == len(other) and all(map(_alike, one, other))
    return other is None or isinstance(one, (int, float) if isinstance(other, float) else type(other))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
