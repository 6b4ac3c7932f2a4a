"""How far a run has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class TrainingState:
    """How far a run has come; a checkpoint holds it.

    Attributes:
        step: optimiser steps done.
        epoch: passes over the data completed.
        images_in_epoch: images seen since, over all processes.
        images: images seen since the run began, over all processes.
        stream: where each lane of an `ImageStream` stands, by its number.
        best_psnr: of the evaluations during training, in dB.
    """

    step: int = 0
    epoch: int = 0
    images_in_epoch: int = 0
    images: int = 0
    stream: dict[str, list[int]] = field(default_factory=dict)
    best_psnr: float | None = None

    def saw(self, images: int, positions: Mapping[int, tuple[int, ...]]) -> None:
        """Count a batch.

        Args:
            images: of all processes.
            positions: where the lanes of a stream that this process reads stand now.
        """
        self.images += images
        self.images_in_epoch += images
        self.stream |= {str(lane): list(position) for lane, position in positions.items()}

    def begin_new_pass(self, lanes: int) -> None:
        """Leave the pass over data that are no longer what they were.

        Args:
            lanes: of the stream, 0 of other data.
        """
        self.epoch += self.images_in_epoch > 0
        self.images_in_epoch = 0
        passes = max((position[0] for position in self.stream.values()), default=-1)
        self.stream = {str(lane): [passes + 1, 0, 0] for lane in range(lanes)}
