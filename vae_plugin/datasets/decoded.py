"""A decoded image, and what is seen of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from .framing import Size, View, ViewOf
from .rasters import resized
from .rules import DataRules

REDUCTIONS = (8, 4, 2)  # factors by which a JPEG is decoded smaller, from fewer of its cosines
MARGIN = 4  # how many times as large as the part that is seen of it a reduced image stays, see `reduction`


@dataclass(frozen=True)
class Decoded:
    """An upright image.

    Attributes:
        source: an image of 8 bits: as Pillow has it, or its pixels (H, W) or (H, W, C). Or values in [-1, 1], float32
            (H, W, C), of one with more.
        size: width and height of the whole image in its file, upright.
        reduction: factor by which it was decoded smaller.
        reducible: whether its file can be decoded smaller.
        clipped: whether values lay beyond the range that was given.
    """

    source: Image.Image | np.ndarray
    size: Size
    reduction: int = 1
    reducible: bool = False
    clipped: bool = False

    @property
    def pixels(self) -> np.ndarray:
        """The pixels, uint8 (H, W) or (H, W, C), or float32 (H, W, C)."""
        return np.asarray(self.source)

    @property
    def has_floats(self) -> bool:
        """Whether the source is of floats."""
        return isinstance(self.source, np.ndarray) and self.source.dtype == np.float32

    @property
    def bytes(self) -> int:
        """The size of the pixels."""
        if isinstance(self.source, Image.Image):
            return self.source.width * self.source.height * len(self.source.getbands())
        return self.source.nbytes

    def serves(self, view_of: ViewOf, rules: DataRules) -> bool:
        """Whether the file would be decoded in this way for what is seen of it."""
        return not self.reducible or self.reduction == reduction(view_of(self.size), rules)

    def seen(self, view_of: ViewOf | None, rules: DataRules) -> np.ndarray:
        """What is seen of the image, (h, w) or (h, w, C) of the same type.

        Args:
            view_of: see `ImageReader.tensor`.
            rules: of the data.
        """
        if view_of is None:
            return self.pixels
        view = view_of(self.size)
        if self.has_floats:
            return resized(self.pixels, view)
        if view.as_it_is and self.reduction == 1 and (rules.cut_as_it_is or view.size == self.size):
            left, top, right, bottom = map(int, view.box)
            if isinstance(self.source, Image.Image):
                found = np.asarray(self.source.crop((left, top, right, bottom)))
            else:
                found = self.source[top:bottom, left:right]
        else:
            # A single call resizes and crops. PIL's filter still sees the pixels outside the box, nothing is computed
            # only to be thrown away, and the aspect ratio is exact, where resizing first would round the longer side to
            # whole pixels.
            box = tuple(edge / self.reduction for edge in view.box)
            image = self.source if isinstance(self.source, Image.Image) else Image.fromarray(self.source)
            found = np.asarray(image.resize(view.size, Image.Resampling.LANCZOS, box=box))  # type: ignore[arg-type]
        return found[:, ::-1] if view.flip else found


def reduction(view: View, rules: DataRules) -> int:
    """The factor by which a JPEG is decoded smaller for a view: 1, 2, 4 or 8.

    libjpeg then leaves out the higher frequencies of each block of 8 x 8 pixels. The margin keeps these well above what
    Lanczos' filter passes. On mosaics of photographs whose detail is a pixel wide the result differs by 0.26, 0.32 and
    0.35 of a level on average (factors 2, 4 and 8) from that of the whole image, and by 0.18, 0.23 and 0.30 on the same
    ones enlarged twice; rounding alone makes 0.33 between two images. With a margin of 2 it would be 0.7 to 1.1, and
    0.4 to 0.8.
    """
    if not rules.reduce_jpegs:
        return 1
    left, top, right, bottom = view.box
    scale = min((right - left) / view.size[0], (bottom - top) / view.size[1])
    return next((factor for factor in REDUCTIONS if scale >= factor * MARGIN), 1)


def tensors_of(images: Sequence[np.ndarray] | np.ndarray) -> torch.Tensor:
    """Images of one size and type, (H, W) or (H, W, C), as float32 (B, C, H, W) in [-1, 1].

    A value v of 8 bits becomes v / 127.5 - 1; floats are in that range.
    """
    pixels = torch.from_numpy(images if isinstance(images, np.ndarray) else np.stack(images))
    pixels = (pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)).contiguous()
    return pixels if pixels.dtype == torch.float32 else pixels.float().div_(127.5).sub_(1)
