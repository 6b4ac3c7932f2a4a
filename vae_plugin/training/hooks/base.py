"""What a side concern of training is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """An optimiser step that was just taken.

    Attributes:
        number: of it, from 1.
        is_last: whether the run ends with it.
        terms: of the losses, means over the batches of the step and all processes.
    """

    number: int
    is_last: bool
    terms: Mapping[str, float]


class Hook:
    """A side concern of training, which decides by itself when to act.

    Args:
        every: steps between two actions; None never acts.
    """

    def __init__(self, every: int | None) -> None:
        self.every = every

    def after_step(self, step: Step) -> None:
        """Act if it is time; every process calls this."""
        if self.every is not None and step.number % self.every == 0:
            self.act(step)

    def act(self, step: Step) -> None:
        """Do what the hook is for."""
        raise NotImplementedError
