"""A module that is trained, with its optimiser and its schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from ..errors import UserError
from .failures import StepFailed
from .optimizers import ADAMW
from .rehearsal import rehearse
from .schedule import make_schedule
from .settings import OptimizationSettings


class Trainee:
    """A loss module, its optimiser and its schedule; prepared for the processes of the run.

    The weights and the optimiser's moments are float32 in every precision.

    Args:
        accelerator: of the run.
        module: its `forward` returns terms with "loss".
        settings: of the optimiser.
        learning_rate: its peak.
        total_steps: optimiser steps of the run.
        first_step: step from which on the module is trained.
        prefix: of the name of its gradient norm.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        module: nn.Module,
        settings: OptimizationSettings,
        *,
        learning_rate: float,
        total_steps: int,
        first_step: int = 0,
        prefix: str = "",
    ) -> None:
        self.accelerator = accelerator
        self.settings = settings
        self.learning_rate = learning_rate
        self.first_step = first_step
        self.prefix = prefix
        optimizer = make_optimizer(settings, trained_parameters(module), learning_rate, accelerator.device)
        # Not prepared by accelerate, which would advance it once for every process.
        self.scheduler = make_schedule(settings, optimizer, max(1, total_steps - first_step))
        self.module, self.optimizer = accelerator.prepare(module, optimizer)

    def update(self, terms: Mapping[str, torch.Tensor]) -> dict[str, float]:
        """Backward from `terms["loss"]` and, after the last batch of a step, the step of optimiser and schedule.

        Returns:
            The terms as numbers, means over all processes, and after the last batch of a step "gradient_norm", the
            length of the gradient before it is clipped.

        Raises:
            StepFailed: if the loss or the gradient is not finite; no step was taken with it.
        """
        accelerator = self.accelerator
        means = mean_terms(accelerator, terms)
        if not math.isfinite(means["loss"]):
            raise StepFailed(f"the loss is {means['loss']}")
        accelerator.backward(terms["loss"])
        if accelerator.sync_gradients:
            norm = accelerator.clip_grad_norm_(self.module.parameters(), self.settings.max_grad_norm or math.inf)
            # In float16 the loss scale is found by overflowing now and then; such steps are skipped.
            if norm is not None and accelerator.mixed_precision != "fp16" and not math.isfinite(norm):
                raise StepFailed(f"the norm of the gradient is {norm}")
            if norm is not None and math.isfinite(norm):
                means[f"{self.prefix}gradient_norm"] = float(norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if accelerator.sync_gradients:
            self.scheduler.step()
        return means

    def restore_settings(self) -> None:
        """Set what a checkpoint has brought of the optimiser's settings to what they are now."""
        rate, settings = self.learning_rate, self.settings
        for group in self.optimizer.param_groups:
            if group["initial_lr"] != rate:
                course = group["lr"] / group["initial_lr"] if group["initial_lr"] else 1.0
                group.update(initial_lr=rate, lr=rate * course)
            group.update({name: value for name, value in settings.of_signature().items() if name in group})
        self.scheduler.base_lrs = [rate] * len(self.scheduler.base_lrs)

    @property
    def current_learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.scheduler.get_last_lr()[0])


def make_optimizer(
    settings: OptimizationSettings, parameters: Iterable[nn.Parameter], learning_rate: float, device: torch.device
) -> Optimizer:
    """The optimiser that the settings name; AdamW in one kernel, and where asked for with moments of 8 bits.

    Raises:
        UserError: if 8 bits are not available here, or the optimiser does not fit, see `rehearse`.
    """
    kind, given = settings.kind, list(parameters)
    arguments: dict[str, Any] = {"lr": learning_rate, **settings.of_signature()}
    if settings.use_8bit_adam:
        return _with_8_bits(given, arguments, device)
    arguments |= kind.read(settings.optimizer_args)
    if kind.name == ADAMW and not settings.optimizer_args:
        # A checkpoint says whether it was in one kernel: an older run goes on as it began, with its roundings.
        return torch.optim.AdamW(given, fused=device.type in ("cuda", "cpu"), **arguments)
    rehearse(kind.name, lambda some: kind.make(some, **arguments), device)
    return kind.make(given, **arguments)


def _with_8_bits(parameters: list[nn.Parameter], arguments: dict[str, Any], device: torch.device) -> Optimizer:
    if device.type != "cuda":
        raise UserError(f"--use_8bit_adam needs a CUDA GPU, and this run is on {device.type}: leave it out.")
    try:
        import bitsandbytes
    except ImportError as error:
        raise UserError("--use_8bit_adam needs bitsandbytes: pip install 'vae-plugin[8bit]'.") from error
    return bitsandbytes.optim.AdamW8bit(parameters, **arguments)


def trained_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters with a gradient, each once.

    Raises:
        UserError: if there are none.
    """
    found = [p for p in module.parameters() if p.requires_grad]
    if not found:
        raise UserError("there is nothing to train: no part of the model has a gradient.")
    return found


def mean_terms(accelerator: Accelerator, terms: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """The terms of a loss as numbers, means over all processes."""
    means = accelerator.reduce(torch.stack([t.detach().float() for t in terms.values()]), reduction="mean")
    return dict(zip(terms, means.tolist(), strict=True))


class TermMeans:
    """Means of the terms over the batches of one optimiser step."""

    def __init__(self) -> None:
        self._batches: list[dict[str, float]] = []

    def add(self, terms: dict[str, float]) -> None:
        """Take the terms of a batch."""
        self._batches.append(terms)

    def result(self) -> dict[str, float]:
        """The means, each over the batches that have the term."""
        values: dict[str, list[float]] = {}
        for terms in self._batches:
            for name, value in terms.items():
                values.setdefault(name, []).append(value)
        return {name: sum(given) / len(given) for name, given in values.items()}
