"""What an autoencoder adds to an image that has nothing in it: grids of its compression ratio, and borders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..autoencoders import Adapter
from ..errors import NotFiniteError
from ..models.distributed import objects_over_processes
from ..models.exact import exact
from .measures import Seen

GRAYS = (-1.0, -0.5, 0.0, 0.5, 1.0)


@dataclass(frozen=True)
class FlatColours:
    """The energy that images of one colour get, over several colours; lengths in 8-bit levels, of values as decoded.

    The deviation of a decoded image is its difference from its own mean over the inside, for each colour and channel.

    Attributes:
        energy: (H, W) float64, mean square of the deviation at each position, over colours and channels, in levels^2.
        shift: mean over colours and channels of the absolute difference between the mean of the inside and the colour.
        inside: root mean square of the deviation two blocks or more away from the borders, a block being the
            compression ratio; of the whole image where nothing is that far away.
        border: likewise within one block of the borders.
        grid: root mean square, inside, of the part of the deviation that repeats every block along both sides: its
            Fourier components at k / f, by its mean over blocks. None where the inside has fewer than 2 x 2 blocks.
        grid_share: share of that part in the energy inside, 0 to 1; noise without a grid has 1 / blocks. 0 without
            energy; None as `grid`.
        colours: number of colours.
    """

    energy: torch.Tensor
    shift: float
    inside: float
    border: float
    grid: float | None
    grid_share: float | None
    colours: int

    def metrics(self) -> dict[str, float]:
        """The numbers by their names in metrics.json; those that are None are absent."""
        values = {
            "flat_shift": self.shift,
            "flat_inside_rms": self.inside,
            "flat_border_rms": self.border,
            "flat_grid_rms": self.grid,
            "flat_grid_share": self.grid_share,
        }
        return {name: value for name, value in values.items() if value is not None}


@torch.no_grad()
def flat_colours(
    reconstruct: Callable[[torch.Tensor], torch.Tensor],
    channels: int,
    height: int,
    width: int,
    ratio: int,
    like: torch.Tensor | None = None,
) -> FlatColours:
    """Send images of one colour through an autoencoder, one at a time.

    Args:
        reconstruct: images (1, C, H, W) in [-1, 1] to images of the same shape.
        channels: C.
        height: H in pixels.
        width: W.
        ratio: pixels per position of the latent grid, along one side.
        like: tensor whose device and precision the images have.

    Raises:
        NotFiniteError: if a reconstruction is NaN or infinite.
    """
    colours = colours_of(channels)
    like = torch.zeros(()) if like is None else like
    rows, columns = _inside(height, ratio), _inside(width, ratio)
    near_border = torch.ones(height, width, dtype=torch.bool)
    near_border[ratio : height - ratio, ratio : width - ratio] = False
    energy = torch.zeros(height, width, dtype=torch.float64)
    shift, periodic = 0.0, None
    for colour in colours:
        value = torch.tensor(colour, dtype=torch.float64).view(-1, 1, 1)
        image = value.to(like.dtype).to(like.device).expand(1, channels, height, width)
        decoded = reconstruct(image.contiguous())
        if not decoded.isfinite().all():
            raise NotFiniteError(f"the reconstruction of an image of the colour {tuple(colour)}")
        levels = 127.5 * (exact(decoded)[0] - value)
        mean = levels[:, rows, columns].mean((1, 2), keepdim=True)
        shift += mean.abs().mean().item()
        deviation = levels - mean
        energy += deviation.square().mean(0)
        profile = _over_blocks(deviation[:, rows, columns], ratio)
        periodic = None if profile is None else profile.square().mean().item() + (periodic or 0.0)
    count = len(colours)
    energy /= count
    total = energy[rows, columns].mean().item()
    grid = None if periodic is None else periodic / count
    return FlatColours(
        energy=energy,
        shift=shift / count,
        inside=total**0.5,
        border=energy[near_border].mean().item() ** 0.5,
        grid=None if grid is None else grid**0.5,
        grid_share=None if grid is None else min(1.0, grid / total) if total else 0.0,
        colours=count,
    )


class FlatColourCheck:
    """`flat_colours` of a model as a `Measure`, in the size of the first image."""

    def __init__(self) -> None:
        self._adapter: Adapter | None = None
        self._first: tuple[int, int, int] | None = None  # number, height and width of the first image
        self._like = torch.zeros(())

    def update(self, seen: Seen) -> None:
        """See the size of the images."""
        self._adapter = seen.adapter
        height, width = seen.images.shape[-2:]
        first = (min(seen.numbers), height, width)
        self._first = first if self._first is None else min(self._first, first)
        self._like = seen.images[:0]

    def all_reduce(self) -> None:
        """Agree on the first image."""
        self._first = min((first for first in objects_over_processes(self._first) if first is not None), default=None)

    def result(self) -> dict[str, Any]:
        """Send the colours through the model: `FlatColours.metrics`."""
        if self._adapter is None or self._first is None:
            return {}
        adapter, (_, height, width) = self._adapter, self._first
        ratio = adapter.spatial_compression_ratio
        return dict(flat_colours(adapter.reconstruct, adapter.in_channels, height, width, ratio, self._like).metrics())


def colours_of(channels: int) -> list[Sequence[float]]:
    """Five grays, and of several channels each of the first three at its end alone and without the others."""
    colours: list[Sequence[float]] = [[value] * channels for value in GRAYS]
    for channel in range(min(3, channels) if channels > 2 else channels - 1):
        colours += ([sign if k == channel else -sign for k in range(channels)] for sign in (1.0, -1.0))
    return colours


def _inside(side: int, ratio: int) -> slice:
    """Whole blocks along one side, two or more away from both ends; all of it where there are none."""
    blocks = side // ratio - 4
    return slice(2 * ratio, (2 + blocks) * ratio) if blocks > 0 else slice(0, side)


def _over_blocks(deviation: torch.Tensor, ratio: int) -> torch.Tensor | None:
    """Mean (C, f, f) over the blocks of a deviation (C, H, W) that has whole ones; None for fewer than 2 x 2."""
    channels, height, width = deviation.shape
    if ratio < 2 or height % ratio or width % ratio or min(height, width) < 2 * ratio:
        return None
    blocks = deviation.reshape(channels, height // ratio, ratio, width // ratio, ratio)
    return blocks.mean((1, 3))
