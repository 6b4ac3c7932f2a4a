"""The optimiser."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer

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
