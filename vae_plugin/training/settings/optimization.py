"""The optimiser, its schedule, and the precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...options import GIVEN, LARGEST_SEED, Except, option
from ..optimizers import ADAMW, OptimizerKind, find_optimizer

SCHEDULERS = ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup")

POLYNOMIAL = {"lr_scheduler": ("polynomial",)}
OF_SIGNATURE = ("betas", "eps", "weight_decay")


@dataclass
class OptimizationSettings:
    """Settings of the optimiser, its schedule, and the precision of a run."""

    train_batch_size: int = option(
        32, "Images per batch and process.", at_most=2**20, at_least=1, common=True, on_resume=True
    )
    gradient_accumulation_steps: int = option(
        1, "Batches per optimiser step.", at_most=2**20, at_least=1, on_resume=True
    )
    max_train_steps: int | None = option(
        None,
        "Number of optimiser steps. By default those of --num_train_epochs.",
        at_least=1,
        common=True,
        on_resume=True,
    )
    num_train_epochs: int = option(
        10, "Number of passes over the data.", at_least=1, when={"max_train_steps": (None,)}, on_resume=True
    )
    learning_rate: float | None = option(
        None,
        "Peak learning rate. By default, meant for AdamW, 1e-3 for a new model of ours, 1e-4 for another new model and "
        "for LoRA, 1e-5 to fine-tune.",
        at_least=0,
        common=True,
        on_resume=True,
    )
    lr_scheduler: str = option("cosine", "Schedule of the learning rate.", choices=SCHEDULERS, on_resume=True)
    lr_warmup_steps: int = option(
        100,
        "Steps over which the learning rate rises from 0.",
        at_least=0,
        when={"lr_scheduler": Except("constant")},
        on_resume=True,
    )
    lr_num_cycles: int = option(
        1,
        "Falls of the rate from its peak to 0 under cosine_with_restarts; one is cosine.",
        at_least=1,
        when={"lr_scheduler": ("cosine_with_restarts",)},
        on_resume=True,
        since="0.2",
    )
    lr_power: float = option(
        1.0,
        "Power of the polynomial, by which the rate falls from its peak to --lr_end; 1 is linear.",
        above=0,
        when=POLYNOMIAL,
        on_resume=True,
        since="0.2",
    )
    lr_end: float = option(
        1e-7, "Learning rate at the end of the polynomial.", at_least=0, when=POLYNOMIAL, on_resume=True, since="0.2"
    )
    optimizer: str = option(
        ADAMW,
        "Optimiser of the model and of its discriminator: one of torch.optim by its name in small letters, such as "
        "sgd, adam or adafactor; one of the package pytorch-optimizer, such as lion or prodigy; or MODULE:CLASS of "
        "your own.",
        since="0.2",
    )
    optimizer_args: tuple[str, ...] = option(
        (),
        "Further arguments of the optimiser as NAME=VALUE, such as momentum=0.9 nesterov=true.",
        since="0.2",
    )
    adam_beta1: float | None = option(
        None,
        "Decay of the first moment, of an optimiser with two betas. By default 0.9 for AdamW, and its own for another.",
        at_least=0,
        below=1,
        when={"without_betas": (None,)},
        on_resume=True,
    )
    adam_beta2: float | None = option(
        None,
        "Decay of the second moment, of an optimiser with two betas. By default 0.99 for AdamW, and its own for "
        "another.",
        at_least=0,
        below=1,
        when={"without_betas": (None,)},
        on_resume=True,
    )
    adam_weight_decay: float | None = option(
        None,
        "Weight decay of the optimiser. By default 0 for AdamW, and its own for another.",
        at_least=0,
        when={"without_weight_decay": (None,)},
        on_resume=True,
    )
    adam_epsilon: float | None = option(
        None,
        "Epsilon of the optimiser. By default 1e-8 for AdamW, and its own for another.",
        at_least=0,
        when={"without_eps": (None,)},
        on_resume=True,
    )
    max_grad_norm: float = option(
        1.0, "Largest norm of the gradient, which is clipped to it; 0 does not clip.", at_least=0, on_resume=True
    )
    use_8bit_adam: bool = option(
        False,
        "Use AdamW with moments of 8 bits, from bitsandbytes (GPU only).",
        when={"optimizer": (ADAMW,), "optimizer_args": ((),)},
    )
    compile: bool = option(False, "Compile encoder and decoder with torch.compile.", on_resume=True)
    channels_last: bool = option(
        False,
        "Keep weights and images in the channels_last memory format.",
        when={"network": ("conv",)},
        on_resume=True,
    )
    use_ema: bool = option(False, "Keep a moving average of the weights, which becomes the result.", common=True)
    ema_max_decay: float = option(
        0.999, "Decay of the moving average of the weights.", at_least=0, below=1, when={"use_ema": GIVEN}
    )
    mixed_precision: str | None = option(
        None,
        "Precision of the forward and backward pass; weights stay float32. By default that of accelerate launch.",
        choices=("no", "fp16", "bf16"),
        common=True,
        on_resume=True,
    )
    seed: int = option(
        0,
        "Seed of the initial weights, the order of the data, its augmentation and the noise.",
        at_most=LARGEST_SEED,
        at_least=0,
    )

    def __post_init__(self) -> None:
        if ":" not in self.optimizer:
            self.optimizer = self.optimizer.lower()

    @property
    def kind(self) -> OptimizerKind:
        """The class of the optimiser."""
        return find_optimizer(self.optimizer)

    def facts(self) -> dict[str, Any]:
        """For each argument that has an option: the name of the optimiser if it is without, None if it takes it."""
        kind = self.kind
        return {f"without_{name}": None if kind.takes(name) else kind.name for name in OF_SIGNATURE}

    def settle_optimizer(self) -> None:
        """Set what was left open to the defaults of the optimiser, for a checkpoint to hold."""
        arguments = self.of_signature()
        self.adam_beta1, self.adam_beta2 = arguments.get("betas", (None, None))
        self.adam_epsilon = arguments.get("eps")
        self.adam_weight_decay = arguments.get("weight_decay")

    def of_signature(self) -> Mapping[str, Any]:
        """The arguments of the optimiser that options of their own set, beside the learning rate."""
        kind = self.kind
        found = {name: kind.default(name) for name in OF_SIGNATURE if kind.takes(name)}
        if "betas" in found:
            given = (self.adam_beta1, self.adam_beta2)
            found["betas"] = tuple(
                own if value is None else value for own, value in zip(found["betas"], given, strict=True)
            )
        for name, value in (("eps", self.adam_epsilon), ("weight_decay", self.adam_weight_decay)):
            if name in found and value is not None:
                found[name] = value
        return found
