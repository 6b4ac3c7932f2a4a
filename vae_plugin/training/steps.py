"""One change of the weights, over all processes, and the end of a run that cannot go on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NoReturn

import torch
from accelerate import Accelerator
from torch.optim import Optimizer

from ..errors import TrainingStopped
from .checkpoints import TrainingState, list_checkpoints
from .finetune_options import FinetuneOptions

LOWER_RATE = "A lower --learning_rate, a longer --lr_warmup_steps, or --mixed_precision no may help"


def change_weights(
    accelerator: Accelerator,
    options: FinetuneOptions,
    output_dir: Path,
    state: TrainingState,
    terms: dict[str, torch.Tensor],
    module: torch.nn.Module,
    optimizer: Optimizer,
) -> dict[str, float]:
    """Backward from `terms["loss"]` and, after the last batch of a step, the step of the module's optimiser.

    Returns:
        The terms as numbers, means over all processes.

    Raises:
        TrainingStopped: if the loss or the gradient is not finite; no step was taken with it.
    """
    means = mean_terms(accelerator, terms)
    if not math.isfinite(means["loss"]):
        stop(output_dir, state, f"the loss is {means['loss']}")
    accelerator.backward(terms["loss"])
    if accelerator.sync_gradients:
        norm = accelerator.clip_grad_norm_(module.parameters(), options.max_grad_norm or math.inf)
        # In float16 the loss scale is sought by overflowing now and then; such steps are skipped.
        if norm is not None and accelerator.mixed_precision != "fp16" and not math.isfinite(norm):
            stop(output_dir, state, f"the norm of the gradient is {norm}")
    optimizer.step()
    optimizer.zero_grad()
    return means


def mean_terms(accelerator: Accelerator, terms: dict[str, torch.Tensor]) -> dict[str, float]:
    """The terms of the loss as numbers, means over all processes."""
    means = accelerator.reduce(torch.stack([t.detach().float() for t in terms.values()]), reduction="mean")
    return dict(zip(terms, means.tolist(), strict=True))


def agreed(accelerator: Accelerator, flag: bool) -> bool:
    """Whether any process has raised the flag; all processes get the same answer."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)).item())


def stop(output_dir: Path, state: TrainingState, reason: str, remedy: str = LOWER_RATE) -> NoReturn:
    """End a run that cannot go on. No step was taken with a bad value: what is on disk is good."""
    checkpoints = list_checkpoints(output_dir)
    where = f"the last good checkpoint is {checkpoints[-1]}" if checkpoints else "no checkpoint was written yet"
    raise TrainingStopped(f"{reason} at step {state.step:,}: training stopped, {where}. {remedy}.")
