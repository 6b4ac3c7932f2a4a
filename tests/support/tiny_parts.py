"""The parts of a run that have a state, of a size at which a checkpoint takes milliseconds."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import nn

from vae_plugin.training.average import WeightAverage
from vae_plugin.training.checkpoints import Content, save_checkpoint
from vae_plugin.training.parts import RunParts
from vae_plugin.training.settings import OptimizationSettings
from vae_plugin.training.state import TrainingState
from vae_plugin.training.trainee import Trainee


class Loss(nn.Module):
    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, channels, 2)
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        self.count += 1
        return {"loss": self.layer(x).square().mean()}


def tiny_parts(trainees: int = 2, *, average: bool = True, channels: int = 2, steps: int = 1, **settings) -> RunParts:
    """Convolutions that were trained for some steps; the weights of the first are channels_last."""
    accelerator = Accelerator(cpu=True)
    settings = OptimizationSettings(use_ema=average, **settings)
    torch.manual_seed(steps)
    made = []
    for _ in range(trainees):
        module = Loss(channels).to(memory_format=torch.channels_last if not made else torch.contiguous_format)
        made.append(Trainee(accelerator, module, settings, learning_rate=0.1, total_steps=9))
    weights = WeightAverage(made[0].module, settings)
    for _ in range(steps):
        for trainee in made:
            trainee.update(trainee.module(torch.randn(3, 2, 4, 4)))
        weights.update()
    return RunParts(accelerator, made, weights)


def tiny_checkpoint(output_dir, step: int = 1, *, parts: RunParts | None = None, total_limit: int | None = None):
    """A checkpoint of `tiny_parts`: its folder."""
    content = Content(TrainingState(step=step, images=3 * step), {"seed": 1, "disc_start": 0, "use_ema": True}, {})
    return save_checkpoint(parts or tiny_parts(), output_dir, content, total_limit)
