"""What a run is too short for: schedules that begin or end after its last step."""

from __future__ import annotations

from collections.abc import Iterator

from ..options import flat, given_in, has_effect, options_of
from .settings import FinetuneOptions

# Of options that are a number of steps: what does not happen in a run of {steps} steps, the option's value or fewer.
NEVER_AT_ITS_PEAK = {
    "lr_warmup_steps": "the learning rate does not reach its peak",
    "kl_warmup_steps": "the weight of the KL does not reach --beta",
    "capacity_steps": "the target of the KL does not reach --capacity",
}


def unreached(options: FinetuneOptions, steps: int) -> Iterator[str]:
    """A sentence for each schedule that a run ends before.

    Args:
        options: of the run.
        steps: optimiser steps of the whole run, from 0.
    """
    values = {**flat(options), **options.facts()}
    start, warmup = options.loss.disc_start, options.loss.disc_warmup_steps
    if start is not None and start >= steps:
        yield f"--disc_start {start}: the discriminator is not trained, since the run ends after {steps:,} steps."
    elif start is not None and start + warmup >= steps:
        yield (
            f"--disc_start {start} --disc_warmup_steps {warmup}: the adversarial loss is not added, since the run ends "
            f"after {steps:,} steps; the discriminator alone is trained."
        )
    for name, what in NEVER_AT_ITS_PEAK.items():
        option, value = options_of(FinetuneOptions)[name], values[name]
        last = steps - 1 if name == "lr_warmup_steps" else steps  # its first step has a rate of 0
        given = name in given_in(options)
        if value > last and has_effect(option, values) and (given or value == option.default):
            usual = "" if given else " (the default)"
            yield f"--{name} {value}{usual}: {what}, since the run ends after {steps:,} steps."
    every = options.output.validation_steps
    if every is not None and every > steps:
        yield f"--validation_steps {every}: there is no evaluation before the end, after {steps:,} steps."
