"""Generated images of a disc with exactly known factors of variation."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from ..arguments import Tensor, Whole, accepts
from ..models.exact import exact

# Factors are drawn independently, as disentanglement metrics require. The centre stays at least the largest radius away
# from the border, so every disc lies entirely within its image.
RANGES = {
    "x": (0.25, 0.75),
    "y": (0.25, 0.75),
    "radius": (0.1, 0.25),
    "intensity": (0.3, 1.0),
    "hue": (0.0, 1.0),
}
RENDER_CHUNK = 256
ANY = Whole(-(2**31))  # what is out of range has a sentence of its own


class Circles(Dataset):
    """Antialiased images of one filled disc on black, with the factors that generated them.

    The factors of image i depend only on the seed and on i, not on the length, the resolution or the options. Item i is
    a dict with "pixel_values", float32 (C, H, W) in [-1, 1], and "factors", float32 (F,).

    The factors are uniform and independent. Lengths are in units of the image side, so they mean the same at every
    resolution: "x" and "y", the centre from the left and from the top, in [0.25, 0.75], and "radius" in [0.1, 0.25].
    Optional are "intensity", the brightness of the disc in [0.3, 1] (the background is 0), and "hue" in [0, 1) at full
    saturation.

    Args:
        length: number of images.
        resolution: side of the images in pixels, at least 8.
        channels: 1 or 3.
        seed: random seed, not negative.
        intensity: vary the brightness; otherwise it is 1.
        hue: vary the colour (3 channels only); otherwise discs are gray.

    Raises:
        ValueError: if an argument is out of range, or for `hue` without 3 channels.
    """

    @accepts(length=ANY, resolution=ANY, channels=ANY, seed=ANY)
    def __init__(
        self,
        length: int = 10_000,
        resolution: int = 64,
        channels: int = 1,
        *,
        seed: int = 0,
        intensity: bool = False,
        hue: bool = False,
    ) -> None:
        if length < 0 or seed < 0:
            raise ValueError(f"length is {length} and seed is {seed}: neither may be negative.")
        if resolution < 8:
            raise ValueError(f"resolution is {resolution}: circles need at least 8 pixels.")
        if channels not in (1, 3):
            raise ValueError(f"channels is {channels}: circles have 1 channel (gray) or 3 (RGB).")
        if hue and channels != 3:
            raise ValueError(f"hue=True makes RGB images but channels is {channels}: give channels=3 or hue=False.")
        self.resolution = resolution
        self.channels = channels
        self.seed = seed
        self.factor_names: tuple[str, ...] = ("x", "y", "radius") + ("intensity",) * intensity + ("hue",) * hue
        self.factors = self._draw_factors(length)

    def __len__(self) -> int:
        return len(self.factors)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        factors = self.factors[range(len(self))[operator.index(index)]].clone()
        return {"pixel_values": self.render(factors[None])[0], "factors": factors}

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """The items of these indices, drawn together; a `DataLoader` asks for its batches so."""
        factors = self.factors[[range(len(self))[operator.index(index)] for index in indices]]
        images = self.render(factors)
        return [{"pixel_values": image, "factors": row} for image, row in zip(images, factors, strict=True)]

    @accepts(factors=Tensor())
    def render(self, factors: torch.Tensor) -> torch.Tensor:
        """Render images from given factors.

        Args:
            factors: (N, F), with columns in the order of `factor_names`; values may lie outside the ranges drawn from.

        Returns:
            Images (N, C, H, W), float32 in [-1, 1].

        Raises:
            ValueError: if `factors` does not have F columns.
        """
        if factors.ndim != 2 or factors.shape[1] != len(self.factor_names):
            raise ValueError(
                f"got factors of shape {tuple(factors.shape)}: expected (N, {len(self.factor_names)}), with the "
                f"columns {', '.join(self.factor_names)}."
            )
        if len(factors) == 0:
            return torch.empty(0, self.channels, self.resolution, self.resolution)
        return torch.cat([self._render(chunk) for chunk in factors.split(RENDER_CHUNK)])

    def _render(self, factors: torch.Tensor) -> torch.Tensor:
        columns = dict(zip(self.factor_names, exact(factors).unbind(1), strict=True))
        brightness = columns.get("intensity", torch.ones_like(columns["x"]))
        colour = brightness[:, None]
        if "hue" in columns:
            colour = colour * saturated_rgb(columns["hue"])
        x, y, radius = columns["x"], columns["y"], columns["radius"]
        left, top, side = windows(x, y, radius, self.resolution)
        edges = torch.arange(side + 1, device=x.device)
        coverage = disc_coverage(x, y, radius, self.resolution, left[:, None] + edges, top[:, None] + edges)
        discs = (coverage[:, None] * colour[:, :, None, None] * 2 - 1).float().expand(-1, self.channels, -1, -1)
        images = torch.full((len(x), self.channels, self.resolution, self.resolution), -1.0, device=x.device)
        for image, disc, row, column in zip(images, discs, top.tolist(), left.tolist(), strict=True):
            image[:, row : row + side, column : column + side] = disc
        return images

    def _draw_factors(self, length: int) -> torch.Tensor:
        # Row i takes a fixed block of a counter-based generator (Philox, Salmon et al. 2011) with one number for every
        # possible factor, so neither the length nor an option changes the other factors.
        raw = np.random.Philox(self.seed).random_raw(8 * length).reshape(length, 8)[:, : len(RANGES)]
        uniform = (raw >> np.uint64(40)) * 2.0**-24  # no more bits than float32 holds, so never rounded up to 1
        columns = [
            low + (high - low) * uniform[:, i]
            for i, (name, (low, high)) in enumerate(RANGES.items())
            if name in self.factor_names
        ]
        return torch.from_numpy(np.stack(columns, axis=1)).float()


def windows(
    x: torch.Tensor, y: torch.Tensor, radius: torch.Tensor, resolution: int
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Square windows of one size outside which discs cover nothing: first columns (N,), first rows (N,), and the side.

    Args:
        x: centres of N discs from the left, in image sides.
        y: from the top.
        radius: in image sides.
        resolution: of the images, in pixels.
    """
    known = torch.stack([x, y, radius]).isfinite().all() and radius.min() > 0
    side = min(resolution, int(2 * radius.max() * resolution) + 3) if known else resolution
    if side == resolution:
        start = torch.zeros_like(x, dtype=torch.int64)
        return start, start, resolution
    left, top = (((centre - radius) * resolution).floor().long() - 1 for centre in (x, y))
    return left.clamp(0, resolution - side), top.clamp(0, resolution - side), side


def disc_coverage(
    x: torch.Tensor,
    y: torch.Tensor,
    radius: torch.Tensor,
    resolution: int,
    columns: torch.Tensor | None = None,
    rows: torch.Tensor | None = None,
) -> torch.Tensor:
    """Exact fraction of every pixel that a disc covers: (N, H, W) in [0, 1] from three (N,) in image sides.

    The area of the disc to the upper left of a point has a closed form. Its second difference over the corners of a
    pixel is the area of the disc within that pixel.

    Args:
        x: centres from the left.
        y: centres from the top.
        radius: of the discs.
        resolution: side of the images in pixels.
        columns: (N, W + 1), the pixel edges between which the discs are drawn, from the left; all by default.
        rows: (N, H + 1), from the top; all by default.
    """
    every = torch.arange(resolution + 1, device=x.device)
    columns, rows = (every if edges is None else edges for edges in (columns, rows))
    r = radius[:, None]
    dx = (columns.to(x.dtype) / resolution - x[:, None]).clamp(-r, r)
    dy = (rows.to(x.dtype) / resolution - y[:, None]).clamp(-r, r)
    left = _segment_area(dx, r)[:, None, :]
    above = _segment_area(dy, r)[:, :, None]
    dx, dy, r = dx[:, None, :], dy[:, :, None], r[:, :, None]
    disc = math.pi * r.square()
    # A corner inside the disc cuts it into four pieces, which follow from the segments of the two chords and the
    # rectangle between corner and centre. A corner outside leaves nothing, one segment, or all but the other two.
    inside = dx * dy + (left + above) / 2 - disc / 4
    right, below = dx > 0, dy > 0
    outside = left * below + above * right - disc * (right & below)
    corner = torch.where(dx.square() + dy.square() < r.square(), inside, outside)
    return (corner.diff(dim=1).diff(dim=2) * resolution**2).clamp(0, 1)


def _segment_area(offset: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """Area of the part of a disc around 0 whose coordinate is below `offset`, |offset| <= radius."""
    half_chord = (radius.square() - offset.square()).clamp(min=0).sqrt()
    return radius.square() * (math.pi - torch.acos((offset / radius).clamp(-1, 1))) + offset * half_chord


def saturated_rgb(hue: torch.Tensor) -> torch.Tensor:
    """RGB of HSV colours with full saturation and value: (N, 3) in [0, 1] from hues (N,), where 0 and 1 are red."""
    distance = (hue[:, None] * 6 - torch.tensor([0.0, 2.0, 4.0], dtype=hue.dtype, device=hue.device) + 3) % 6 - 3
    return (2 - distance.abs()).clamp(0, 1)
