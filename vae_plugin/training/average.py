"""The moving average of the weights, where a run keeps one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from .settings import OptimizationSettings


class WeightAverage:
    """An `EMAModel` of a model, or nothing: then every method does nothing.

    Args:
        model: whose weights are averaged.
        settings: of the average.
    """

    def __init__(self, model: nn.Module, settings: OptimizationSettings) -> None:
        self.model = model
        self.ema = EMAModel(model.parameters(), decay=settings.ema_max_decay) if settings.use_ema else None

    def to(self, device: torch.device) -> None:
        """Move the average."""
        if self.ema is not None:
            self.ema.to(device)

    def update(self) -> None:
        """Follow the weights after an optimiser step."""
        if self.ema is not None:
            self.ema.step(self.model.parameters())

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averaged weights in place of the trained ones, for the time of the block."""
        if self.ema is None:
            yield
            return
        self.ema.store(self.model.parameters())
        self.ema.copy_to(self.model.parameters())
        try:
            yield
        finally:
            self.ema.restore(self.model.parameters())

    def keep(self) -> None:
        """Replace the weights by their average."""
        if self.ema is not None:
            self.ema.copy_to(self.model.parameters())
