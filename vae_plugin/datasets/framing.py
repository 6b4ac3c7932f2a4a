"""Which part of an image becomes a training image, and at which size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .errors import DataError

Size = tuple[int, int]  # width and height in pixels
CENTRE = (0.5, 0.5)


@dataclass(frozen=True)
class View:
    """What is seen of one image.

    Attributes:
        box: left, top, right and bottom of the part, in pixels of the upright image; they need not be whole.
        size: width and height that the part is resized to.
        flip: whether it is then mirrored left to right.
    """

    box: tuple[float, float, float, float]
    size: Size
    flip: bool = False


ViewOf = Callable[[Size], View]


@dataclass(frozen=True)
class Framing:
    """How training images are cut from images of any size.

    Attributes:
        resolution: side of the square in pixels; the shorter side of an image is resized to it.
        center_crop: crop the square from the centre rather than from a random position along the longer side.
        random_flip: mirror a random half of the images left to right.

    Raises:
        DataError: if the resolution is less than 1.
    """

    resolution: int
    center_crop: bool = False
    random_flip: bool = False

    def __post_init__(self) -> None:
        if self.resolution < 1:
            raise DataError(f"resolution is {self.resolution}: give the side of the images in pixels, at least 1.")

    def view(self, size: Size, key: Sequence[int] = ()) -> View:
        """What is seen of an image.

        Args:
            size: width and height of the upright image.
            key: integers that decide whatever is random.
        """
        position, flip = CENTRE, False
        if self.random_flip or not self.center_crop:
            draws = np.random.default_rng(key).random(3).tolist()
            position = CENTRE if self.center_crop else (draws[0], draws[1])
            flip = self.random_flip and draws[2] < 0.5
        return View(square(size, self.resolution, position), (self.resolution, self.resolution), flip)

    def keyed(self, key: Sequence[int]) -> ViewOf:
        """The views by one key: a function of the size of an image."""
        return lambda size: self.view(size, key)

    def centred(self) -> Framing:
        """The same without chance: centre crops that are never mirrored."""
        return replace(self, center_crop=True, random_flip=False)


def square(size: Size, resolution: int, position: tuple[float, float] = CENTRE) -> tuple[float, float, float, float]:
    """The largest square of an image, as a box.

    Args:
        size: width and height of the image.
        resolution: number of pixels that its side is resized to.
        position: of the square along each axis: 0 is left or top, 0.5 the centre, 1 right or bottom.
    """
    side = min(size)
    left, top = (_offset(length, side, resolution, at) for length, at in zip(size, position, strict=True))
    return left, top, left + side, top + side


def _offset(length: int, side: int, resolution: int, position: float) -> float:
    """Offset within `length` pixels of a window of `side` pixels that is resized to `resolution` pixels."""
    # In steps of whole output pixels, so that an image of the right size is cropped without resampling.
    last = (length - side) * resolution // side
    return min(int(position * (last + 1)), last) * side / resolution
