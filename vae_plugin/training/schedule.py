"""The course of the learning rate."""

from __future__ import annotations

from diffusers.optimization import get_polynomial_decay_schedule_with_warmup, get_scheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..errors import UserError
from .settings import OptimizationSettings


def make_schedule(settings: OptimizationSettings, optimizer: Optimizer, steps: int) -> LambdaLR:
    """The schedule that the settings name, over a number of optimiser steps.

    Raises:
        UserError: if it would not fall from the peak of the learning rate.
    """
    warmup = settings.lr_warmup_steps
    if settings.lr_scheduler != "polynomial":
        return get_scheduler(
            settings.lr_scheduler,
            optimizer,
            num_warmup_steps=warmup,
            num_training_steps=steps,
            num_cycles=settings.lr_num_cycles,
        )
    peak = optimizer.defaults["lr"]
    if not settings.lr_end < peak:
        raise UserError(f"--lr_end is {settings.lr_end}: it must be below the learning rate, which is {peak}.")
    # `get_scheduler` has no argument for the end.
    return get_polynomial_decay_schedule_with_warmup(
        optimizer, warmup, steps, lr_end=settings.lr_end, power=settings.lr_power
    )
