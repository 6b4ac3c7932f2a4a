"""Whether the images that are measured are in [-1, 1], as every function here takes them."""

from __future__ import annotations

import math

import torch

from ..errors import UserError
from ..models.distributed import objects_over_processes, world_size
from ..notices import say

ROUNDING = 1e-2  # by which values may leave [-1, 1]


class RangeCheck:
    """The least and the largest value of a stream of images.

    A model measured on images in [0, 255] or [0, 1] has numbers too, which mean nothing.
    """

    def __init__(self) -> None:
        self._low, self._high = math.inf, -math.inf

    def update(self, images: torch.Tensor) -> None:
        """Take images of any shape.

        Raises:
            UserError: if they are not in [-1, 1]; of several processes `finish` says so, so that none waits for one
                that has stopped.
        """
        if images.numel():
            low, high = (bound.item() for bound in images.aminmax())
            self._low, self._high = min(self._low, low), max(self._high, high)
            if world_size() == 1:
                self._refuse()

    def all_reduce(self) -> None:
        """Add what all processes have seen."""
        lows, highs = zip(*objects_over_processes((self._low, self._high)), strict=True)
        self._low, self._high = min(lows), max(highs)

    def finish(self) -> None:
        """Refuse images that are not in [-1, 1], and name those that do not look so.

        Raises:
            UserError: if they are not.
        """
        self._refuse()
        if 0 <= self._low < self._high <= 1:
            say(
                f"no image has a value below {self._low:g}, as if they were in [0, 1]: the numbers are true only of "
                "images in [-1, 1], such as image * 2 - 1 makes of them."
            )

    def _refuse(self) -> None:
        if self._low >= -1 - ROUNDING and self._high <= 1 + ROUNDING:
            return
        if self._low > self._high:  # no image
            return
        bytes_like = self._low >= 0 and 2 < self._high <= 255
        remedy = "such as image / 127.5 - 1 of 8-bit levels" if bytes_like else "such as image.clamp(-1, 1) of them"
        raise UserError(
            f"the images have values from {self._low:g} to {self._high:g}: give images in [-1, 1], {remedy}."
        )
