"""The optimiser, its rates, and the moving average of what it changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from diffusers.training_utils import EMAModel
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..errors import UserError
from .finetune_options import FinetuneOptions


def make_optimizer(
    options: FinetuneOptions, parameters: Iterable[nn.Parameter], learning_rate: float, device: torch.device
) -> Optimizer:
    """AdamW; on a GPU in one kernel, and where asked for with moments of 8 bits.

    Raises:
        UserError: if these cannot be had.
    """
    settings = {
        "lr": learning_rate,
        "betas": (options.adam_beta1, options.adam_beta2),
        "weight_decay": options.adam_weight_decay,
        "eps": options.adam_epsilon,
    }
    if not options.use_8bit_adam:
        return torch.optim.AdamW(parameters, fused=device.type == "cuda", **settings)
    if device.type != "cuda":
        raise UserError(f"--use_8bit_adam needs a CUDA GPU, this run is on {device.type}: leave it out.")
    try:
        import bitsandbytes
    except ImportError as error:
        raise UserError("--use_8bit_adam needs bitsandbytes: pip install 'vae-plugin[8bit]'.") from error
    return bitsandbytes.optim.AdamW8bit(parameters, **settings)


def use_rates_of(options: FinetuneOptions, optimizer: Optimizer, scheduler: LRScheduler, rate: float) -> None:
    """What a checkpoint has brought of the optimiser's settings, as the options have it now."""
    for group in optimizer.param_groups:
        if group["initial_lr"] != rate:
            course = group["lr"] / group["initial_lr"] if group["initial_lr"] else 1.0
            group.update(initial_lr=rate, lr=rate * course)
        group.update(
            betas=(options.adam_beta1, options.adam_beta2),
            eps=options.adam_epsilon,
            weight_decay=options.adam_weight_decay,
        )
    scheduler.base_lrs = [rate] * len(scheduler.base_lrs)


@contextmanager
def averaged_weights(model: torch.nn.Module, ema: EMAModel | None) -> Iterator[None]:
    """The averaged weights in place of the trained ones, for the time of the block."""
    if ema is None:
        yield
        return
    ema.store(model.parameters())
    ema.copy_to(model.parameters())
    try:
        yield
    finally:
        ema.restore(model.parameters())
