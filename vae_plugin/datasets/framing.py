"""Which part of an image becomes a training image, and at which size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .draws import DRAWS, uniforms
from .errors import DataError

RESIZED, NATIVE, MULTISCALE, WHOLE = "resized", "native", "multiscale", "whole"
CROPS = (RESIZED, NATIVE, MULTISCALE, WHOLE)
LONGEST = 4  # sides of the longest bucket, one to the other
CENTRE = (0.5, 0.5)
FLIP = 2  # the number of a key that mirrors; those before it place the crop, and the one after it scales
Size = tuple[int, int]  # width and height in pixels
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class View:
    """What is seen of one image.

    Attributes:
        box: left, top, right and bottom of the part, in pixels of the upright image; they need not be whole.
        size: width and height that the part is resized to.
        flip: whether it is then mirrored left to right.
    """

    box: Box
    size: Size
    flip: bool = False

    @property
    def as_it_is(self) -> bool:
        """Whether the part consists of whole pixels, and keeps their number."""
        left, top, right, bottom = self.box
        return all(edge == int(edge) for edge in self.box) and (right - left, bottom - top) == self.size


ViewOf = Callable[[Size], View]


@dataclass(frozen=True)
class Framing:
    """How training images are cut from images of any size.

    Crops are squares of `resolution` pixels. "resized" is the largest square of an image, resized. "native" is a window
    of the image's own pixels, which nothing resamples. "multiscale" lies between the two: a window whose side is drawn
    uniformly from the whole numbers from `resolution` to the shorter side, resized. So are the images made that the
    super-resolution models of latent diffusion learn from (`ImageNetSR` of CompVis/latent-diffusion, Rombach et al.
    2022), whose windows have half to all of the shorter side. Of a smaller image all three enlarge the largest square.

    "whole" keeps the aspect ratio instead: an image is resized to cover the bucket whose aspect ratio is nearest, and
    cropped to it, as in aspect ratio bucketing (NovelAI 2022, and kohya's scripts).

    Attributes:
        resolution: side of the square in pixels.
        crop: one of `CROPS`.
        center_crop: crop the square from the centre rather than from a random position, and of "multiscale" at the
            middle scale, of a window half-way between the two sides.
        random_flip: mirror a random half of the images left to right.
        buckets: of "whole", the sizes of its images; see `aspect_buckets`.

    Raises:
        DataError: if the resolution is less than 1, or there is no such crop, or buckets without it or the reverse.
    """

    resolution: int
    crop: str = RESIZED
    center_crop: bool = False
    random_flip: bool = False
    buckets: tuple[Size, ...] = ()

    def __post_init__(self) -> None:
        if self.resolution < 1:
            raise DataError(f"resolution is {self.resolution}: give the side of the images in pixels, at least 1.")
        if self.crop not in CROPS:
            raise DataError(f"crop is {self.crop!r}: give one of {', '.join(CROPS)}.")
        if (self.crop == WHOLE) != bool(self.buckets):
            raise DataError(f"crop is {self.crop!r} and buckets {self.buckets}: give both 'whole' and its buckets.")

    def view(self, size: Size, key: Sequence[int] = (), bucket: Size | None = None) -> View:
        """What is seen of an image.

        Args:
            size: width and height of the upright image.
            key: integers that decide whatever is random.
            bucket: of "whole", the size of the result; by default that of the nearest aspect ratio.
        """
        return self.drawn(None if self.is_fixed else np.random.default_rng(key).random(DRAWS).tolist(), bucket)(size)

    def _box(self, size: Size, position: tuple[float, float], scale: float) -> Box:
        """The part of an image at a position, and of "multiscale" at a scale from 0, native, to 1, resized."""
        shorter = min(size)
        if self.crop == RESIZED or shorter < self.resolution:
            return square(size, self.resolution, position)
        side = self.resolution
        if self.crop == MULTISCALE:
            side += _step(scale, shorter - side)
        left, top = (_step(at, length - side) for length, at in zip(size, position, strict=True))
        return left, top, left + side, top + side

    def keyed(self, key: Sequence[int], bucket: Size | None = None) -> ViewOf:
        """The views by one key: a function of the size of an image."""
        return lambda size: self.view(size, key, bucket)

    @property
    def is_fixed(self) -> bool:
        """Whether nothing is random."""
        return self.center_crop and not self.random_flip

    def draws(self, key: Sequence[int], numbers: np.ndarray) -> np.ndarray:
        """The random numbers of views whose keys are (*key, number): (N, 4) in [0, 1)."""
        return np.full((len(numbers), DRAWS), 0.5) if self.is_fixed else uniforms(key, numbers)

    def mirrored(self, draws: np.ndarray) -> np.ndarray:
        """Which of the views of these random numbers (N, 4) are mirrored: (N,)."""
        return draws[:, FLIP] < 0.5 if self.random_flip else np.zeros(len(draws), dtype=bool)

    def drawn(self, draws: Sequence[float] | None, bucket: Size | None = None) -> ViewOf:
        """The views by the random numbers of one key; None where nothing is random."""

        def view(size: Size) -> View:
            position, scale, flip = CENTRE, 0.5, False
            if draws is not None:
                flip = self.random_flip and draws[FLIP] < 0.5
                if not self.center_crop:
                    position, scale = (draws[0], draws[1]), draws[3]
            if self.crop == WHOLE:
                to = bucket or self.buckets[nearest(np.array([size]), self.buckets)[0]]
                return View(covering(size, to, position), to, flip)
            return View(self._box(size, position, scale), (self.resolution, self.resolution), flip)

        return view

    def centred(self) -> Framing:
        """The same without chance: centre crops that are never mirrored."""
        return replace(self, center_crop=True, random_flip=False)


def aspect_buckets(resolution: int, multiple: int = 1) -> tuple[Size, ...]:
    """Sizes of about `resolution`^2 pixels, and at most so many, from tall (1:4) to wide (4:1).

    The shorter side goes down from `resolution` in steps of about an eighth of it.

    Args:
        resolution: side of the square in pixels.
        multiple: of which the sides are whole multiples.

    Returns:
        (width, height) of each, by width.
    """
    side = max(1, resolution // multiple) * multiple
    step = max(1, round(resolution / 8 / multiple)) * multiple
    found = {(side, side)}
    for shorter in range(side - step, 0, -step):
        longer = resolution**2 // shorter // multiple * multiple
        if longer > LONGEST * shorter:
            break
        found |= {(shorter, longer), (longer, shorter)}
    return tuple(sorted(found))


def shortest_side(sizes: Sequence[Size]) -> int:
    """The shortest side of images of several sizes."""
    return min(min(size) for size in sizes)


def nearest(sizes: np.ndarray, buckets: Sequence[Size]) -> np.ndarray:
    """The bucket of the nearest aspect ratio: numbers (N,) for the widths and heights (N, 2) of images.

    By the ratio of the two aspect ratios, so that tall and wide images are treated alike.
    """
    aspects, targets = (np.log(sides[:, 0] / sides[:, 1]) for sides in (sizes, np.array(buckets)))
    return np.abs(aspects[:, None] - targets).argmin(1)


def covering(size: Size, bucket: Size, position: tuple[float, float] = CENTRE) -> Box:
    """The largest part of an image with the aspect ratio of a bucket, as a box."""
    scale = min(length / to for length, to in zip(size, bucket, strict=True))
    edges = []
    for length, to, at in zip(size, bucket, position, strict=True):
        side = min(to * scale, length)
        first = min(_step(at, int((length - side) / scale)) * scale, length - side)
        edges.append((first, min(first + side, length)))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def square(size: Size, resolution: int, position: tuple[float, float] = CENTRE) -> Box:
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
    return _step(position, (length - side) * resolution // side) * side / resolution


def _step(position: float, last: int) -> int:
    """A position in [0, 1] in whole steps from 0 to the last, each as likely as the others."""
    return min(int(position * (last + 1)), last)
