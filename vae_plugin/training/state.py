"""How far a run has come."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .best import HIGHER_IS_BETTER, Best
from .names import may_name_a_loss

OF_0_1 = {"step", "epoch", "images_in_epoch", "images", "stream"}  # what every checkpoint says


@dataclass
class TrainingState:
    """How far a run has come; a checkpoint holds it.

    Attributes:
        step: optimiser steps done.
        epoch: passes over the data completed.
        images_in_epoch: images seen since, over all processes.
        images: images seen since the run began, over all processes.
        stream: where each lane of an `ImageStream` stands, by its number.
        best: of the evaluations during training.
        seconds: of training, without evaluations, as far as it was timed.
        timed_images: images seen in that time, over all processes.
    """

    step: int = 0
    epoch: int = 0
    images_in_epoch: int = 0
    images: int = 0
    stream: dict[str, list[int]] = field(default_factory=dict)
    best: Best = field(default_factory=Best)
    seconds: float = 0.0
    timed_images: int = 0

    @property
    def images_per_second(self) -> float | None:
        """Images of all processes a second, without the time of evaluations; None before the first."""
        return self.timed_images / self.seconds if self.timed_images and self.seconds else None

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

    @classmethod
    def read(cls, content: Any) -> TrainingState:
        """The state that a checkpoint holds as JSON.

        Raises:
            ValueError: if it is none.
        """
        if not isinstance(content, dict):
            raise ValueError("its state is no object")
        missing = OF_0_1 - content.keys()
        if missing:
            raise ValueError(f"its state has no {min(missing)!r}")
        if "best_psnr" in content:  # of release 0.1, where the PSNR decided
            content = {**content, "best": {"metric": "psnr", "value": content["best_psnr"], "step": None}}
            del content["best_psnr"]
        unknown = content.keys() - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"its state holds {min(unknown)!r}, which this version does not know")
        for name, value in content.items():
            if not _IS_VALID[str(cls.__annotations__[name])](value):
                raise ValueError(f"its {name} is {str(value)[:40]!r}")
        return cls(**{**content, "best": Best(**content.get("best", {}))})


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
    return _is_count(value) or (type(value) is float and math.isfinite(value))


def _are_positions(value: Any) -> bool:
    return isinstance(value, dict) and all(
        lane.isdecimal() and isinstance(at, list) and len(at) == 3 and all(map(_is_count, at))
        for lane, at in value.items()
    )


def _is_best(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() - {"metric", "value", "step"}:
        return False
    metric, number, step = (value.get(name) for name in ("metric", "value", "step"))
    known = metric is None or (isinstance(metric, str) and (metric in HIGHER_IS_BETTER or may_name_a_loss(metric)))
    return known and (number is None or _is_number(number)) and (step is None or _is_count(step))


_IS_VALID: dict[str, Callable[[Any], bool]] = {  # by the annotation
    "int": _is_count,
    "float": _is_number,
    "Best": _is_best,
    "dict[str, list[int]]": _are_positions,
}
