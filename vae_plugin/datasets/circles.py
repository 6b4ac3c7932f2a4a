"""Generated images of one disc, whose factors of variation are known exactly."""

from __future__ import annotations

import math
import operator

import numpy as np
import torch
from torch.utils.data import Dataset

# Every range is drawn from independently of the others, so that a disentanglement metric has independent factors. The
# centre keeps the largest radius away from the border: every disc lies wholly inside its image.
RANGES = {
    "x": (0.25, 0.75),
    "y": (0.25, 0.75),
    "radius": (0.1, 0.25),
    "intensity": (0.3, 1.0),
    "hue": (0.0, 1.0),
}
RENDER_CHUNK = 256


class Circles(Dataset):
    """Images of one filled disc on black, antialiased, with the factors that made them.

    Image i depends on the seed and i alone: not on the length, the resolution or the options. Item i is a dict of
    "pixel_values", float32 (C, H, W) in [-1, 1], and "factors", float32 (F,).

    The factors, each uniform and independent of the others, are in units of the image's side, so that they mean the
    same at every resolution: "x" and "y", the centre, from the left and from the top, in [0.25, 0.75]; "radius" in
    [0.1, 0.25]; where asked for, "intensity", the disc's brightness in [0.3, 1] (the background is 0), and "hue" in
    [0, 1) with full saturation.

    Args:
        length: number of images.
        resolution: side of the images in pixels, at least 8.
        channels: 1 or 3.
        seed: not negative.
        intensity: vary the brightness; without, every disc has 1.
        hue: vary the colour (3 channels only); without, every disc is gray.

    Raises:
        ValueError: for a length, resolution, number of channels or seed outside these, or a hue without 3 channels.
    """

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
            raise ValueError(f"length and seed are {length} and {seed}: neither may be negative.")
        if resolution < 8:
            raise ValueError(f"resolution is {resolution}: circles need at least 8 pixels.")
        if channels not in (1, 3):
            raise ValueError(f"channels is {channels}: circles have 1 channel (gray) or 3 (RGB).")
        if hue and channels != 3:
            raise ValueError(f"hue=True makes RGB images and channels is {channels}: give channels=3 or hue=False.")
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

    def render(self, factors: torch.Tensor) -> torch.Tensor:
        """The images of given factors.

        Args:
            factors: (N, F), columns in the order of `factor_names`; they may leave the ranges that are drawn from.

        Returns:
            (N, C, H, W), float32 in [-1, 1].

        Raises:
            ValueError: if there are not F columns.
        """
        if factors.ndim != 2 or factors.shape[1] != len(self.factor_names):
            raise ValueError(
                f"factors have shape {tuple(factors.shape)}: give (N, {len(self.factor_names)}), with the columns "
                f"{', '.join(self.factor_names)}."
            )
        if len(factors) == 0:
            return torch.empty(0, self.channels, self.resolution, self.resolution)
        return torch.cat([self._render(chunk) for chunk in factors.split(RENDER_CHUNK)])

    def _render(self, factors: torch.Tensor) -> torch.Tensor:
        columns = dict(zip(self.factor_names, factors.double().unbind(1), strict=True))
        brightness = columns.get("intensity", torch.ones_like(columns["x"]))
        colour = brightness[:, None]
        if "hue" in columns:
            colour = colour * saturated_rgb(columns["hue"])
        coverage = disc_coverage(columns["x"], columns["y"], columns["radius"], self.resolution)
        images = coverage[:, None] * colour[:, :, None, None] * 2 - 1
        return images.float().expand(-1, self.channels, -1, -1).contiguous()

    def _draw_factors(self, length: int) -> torch.Tensor:
        # Row i takes a fixed block of the stream of a counter-based generator (Philox, Salmon et al. 2011) and has one
        # number for every factor that there could be: so neither the length nor an option changes another factor.
        raw = np.random.Philox(self.seed).random_raw(8 * length).reshape(length, 8)[:, : len(RANGES)]
        uniform = (raw >> np.uint64(40)) * 2.0**-24  # as many bits as float32 holds: never rounded up to 1
        columns = [
            low + (high - low) * uniform[:, i]
            for i, (name, (low, high)) in enumerate(RANGES.items())
            if name in self.factor_names
        ]
        return torch.from_numpy(np.stack(columns, axis=1)).float()


def disc_coverage(x: torch.Tensor, y: torch.Tensor, radius: torch.Tensor, resolution: int) -> torch.Tensor:
    """The share of every pixel that a disc covers, exactly: (N, H, W) in [0, 1] from three (N,) in image sides.

    The area of the disc within a pixel is the second difference, over the pixel's corners, of the area to the upper
    left of a corner, which has a closed form.
    """
    edges = torch.arange(resolution + 1, dtype=x.dtype, device=x.device) / resolution
    r = radius[:, None]
    dx = (edges - x[:, None]).clamp(-r, r)
    dy = (edges - y[:, None]).clamp(-r, r)
    left = _segment_area(dx, r)[:, None, :]
    above = _segment_area(dy, r)[:, :, None]
    dx, dy, r = dx[:, None, :], dy[:, :, None], r[:, :, None]
    disc = math.pi * r.square()
    # A corner inside the disc cuts it into four pieces, which the two chords' segments and the rectangle between the
    # corner and the centre determine. A corner outside leaves nothing, one segment, or all but the two other segments.
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
    """HSV colours of full saturation and value as RGB: (N, 3) in [0, 1] from hues (N,), of which 0 and 1 are red."""
    distance = (hue[:, None] * 6 - torch.tensor([0.0, 2.0, 4.0], dtype=hue.dtype, device=hue.device) + 3) % 6 - 3
    return (2 - distance.abs()).clamp(0, 1)
