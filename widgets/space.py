"""The directions of a latent space that matter, measured on data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from vae_plugin.arguments import Instance, Real, Tensor, Whole, accepts, check
from vae_plugin.errors import UserError
from vae_plugin.widgets.image_set import Labels
from vae_plugin.widgets.messages import LARGEST
from vae_plugin.widgets.recipe import Move, Reach
from vae_plugin.widgets.shelf import TEXT
from vae_plugin.wording import shown

MAX_DIMENSIONS = 64  # axes of a flat latent
MAX_CHANNELS = 64
MAX_DIRECTIONS = 12
MAX_LABELS = 24
EXTENT = 3.0  # standard deviations that a slider reaches to each side
SHOWN_RANGE = 1.15  # a slider or map covers the range of the data, times this


@dataclass(frozen=True)
class Axis:
    """A direction in which a latent can be moved.

    The coordinate of a latent z is <z - origin, direction> / <direction, direction>; z + (new - old) * direction moves
    it from the old coordinate to the new one.

    Attributes:
        key: "dim 3", "channel 2", "direction 1", "label radius" or "label digit: 7".
        group: "dimensions", "channels", "directions" or "labels".
        index: number of the dimension, channel, direction or label.
        detail: a statistic of the data along the axis, in words.
        low: low end of the range that a slider shows.
        high: high end of that range.
        middle: for a label, its mean over the data.
        name: what the model calls a dimension or channel, see `LatentSpace`; the key if it has no name for it.
    """

    key: str
    group: str
    index: int
    detail: str
    low: float
    high: float
    middle: float = 0.0
    name: str = ""


class LatentSpace:
    """Statistics of the latents of a set of images, and coordinates along the axes found in them.

    A flat latent has an axis for each dimension, ordered by KL (if the posterior is a point, by variance), or in the
    model's order if it names them. A spatial latent has an axis for each channel: the mean over the positions. Both
    have the principal directions of the means, in units of the standard deviation along them, and an axis for each
    label: the least-squares slope of the latents on it, in the label's own unit (for a category, from 0 without it to 1
    with it).

    Args:
        means: means of N posteriors, (N, C, h, w).
        kl: KL of every dimension in nats, averaged over the images, (C, h, w); None if posteriors are points.
        labels: labels of the images, by name.
        rows: row of each of the N images in the labels. Default: the first N.
        names: what the model calls the C channels of its latents; `move` and `coordinate` know these names, too.

    Attributes:
        mean: mean of the latents, (C, h, w).
        directions: principal directions of length one, (K, C, h, w).
        scales: standard deviation of the data along each, (K,).
        slopes: change of the latents with each label, (L, C, h, w).
        axes: all axes by key.
        points: coordinates of the images, (N, number of axes).

    Raises:
        UserError: if the squares of the means are no float32.
    """

    def __init__(
        self,
        means: torch.Tensor,
        kl: torch.Tensor | None = None,
        labels: Mapping[str, Labels] | None = None,
        rows: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self._names = names
        self.rows = list(range(len(means))) if rows is None else list(rows)
        self.means = means
        self.kl = kl
        self.mean = means.mean(0)
        self.std = means.std(0, correction=0)
        self.flat = means.shape[-2:] == (1, 1)
        if not means.square().sum().isfinite():
            raise UserError("the latents of the images are too large to calculate with: their squares are infinite.")
        self.directions, self.scales, shares = _principal(means - self.mean, self.mean.square().sum())
        self.slopes, self._label_means = means.new_zeros(0, *self.mean.shape), means.new_zeros(0)
        axes = [*(self._dimensions() if self.flat else self._channels()), *self._directions(shares)]
        axes += list(self._labels(labels or {}))
        self.axes = {axis.key: axis if axis.name else replace(axis, name=axis.key) for axis in axes}
        self.points = torch.stack([self.coordinates(z) for z in means])

    def __len__(self) -> int:
        return len(self.means)

    def __repr__(self) -> str:
        return f"LatentSpace(of {len(self)} images, {len(self.axes)} axes)"

    def coordinates(self, z: torch.Tensor) -> torch.Tensor:
        """The coordinates of a latent (C, h, w) along all axes: (number of axes,) in the order of `axes`."""
        z = self._checked(z)
        own = z[:MAX_DIMENSIONS].flatten()[self._order] if self.flat else z[:MAX_CHANNELS].mean((1, 2))
        away = (z - self.mean).flatten()
        projected = self.directions.flatten(1) @ away / self.scales
        slopes = self.slopes.flatten(1)
        return torch.cat([own, projected, slopes @ away / slopes.square().sum(1) + self._label_means])

    @accepts(axis=TEXT)
    def coordinate(self, z: torch.Tensor, axis: str) -> float:
        """The coordinate of a latent (C, h, w) along one axis."""
        z = self._checked(z)
        found = self._axis(axis)
        if found.group == "dimensions":
            return z[found.index, 0, 0].item()
        if found.group == "channels":
            return z[found.index].mean().item()
        return self._reach(found).coordinate(z)

    @accepts(axis=TEXT)
    def ends(self, axis: str) -> tuple[float, float]:
        """The low and the high end of the range that an axis's slider shows."""
        found = self._axis(axis)
        return found.low, found.high

    @accepts(axis=TEXT, value=Tensor("", integer=None, also_numbers=True))
    def move(self, z: torch.Tensor, axis: str, value: float) -> torch.Tensor:
        """Move a latent along one axis until its coordinate is `value`.

        Args:
            z: (C, h, w).
            axis: a key of `axes`, or the model's name of one.
            value: for a dimension, its value; for a channel, its mean; for a direction, standard deviations from the
                mean of the data; for a label, its own unit.

        Returns:
            (C, h, w), a new tensor.

        Raises:
            UserError: if there is no such axis.
        """
        z = self._checked(z)
        return self.step(axis, float(value)).apply(z)[0]

    def step(self, axis: str, value: float) -> Move:
        """The move along one axis to a coordinate, as a step of a recipe."""
        check({"value": Real(-LARGEST, LARGEST)}, {"value": value})
        found = self._axis(axis)
        if found.group in ("dimensions", "channels"):
            return Move(f"{'dim' if self.flat else 'channel'} {found.index}", value)
        return Move(axis, value, self._reach(found))

    def _reach(self, axis: Axis) -> Reach:
        if axis.group == "labels":
            slope = self.slopes[axis.index]
            return Reach(self.mean, slope, slope.square().sum().item(), 1.0, axis.middle)
        scale = self.scales[axis.index].item()
        return Reach(self.mean, self.directions[axis.index], scale, scale)

    @accepts(n=Whole(), generator=Instance((torch.Generator,), "a torch.Generator"))
    def sample(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Draw latents (n, C, h, w) from a Gaussian with the mean of the data and its variance along the directions."""
        weights = torch.randn(n, len(self.scales), generator=generator) * self.scales
        return self.mean + torch.einsum("nk,kchw->nchw", weights, self.directions)

    def _checked(self, z: torch.Tensor) -> torch.Tensor:
        """A latent in the precision of this space; an error for what is no latent (C, h, w) of it."""
        rule = Tensor("C h w")
        check({"the mean": rule, "z": rule}, {"the mean": self.mean, "z": z})
        return z.to(self.mean.dtype)

    def _axis(self, key: str) -> Axis:
        if key in self.axes:
            return self.axes[key]
        for axis in self.axes.values():
            if axis.name == key:
                return axis
        raise UserError(f"there is no axis {shown(key)}: the axes are {', '.join(self.axes)}.")

    def _dimensions(self) -> Iterator[Axis]:
        values = self.means[:, :MAX_DIMENSIONS, 0, 0]
        importance = self.std if self.kl is None else self.kl
        importance = importance[:MAX_DIMENSIONS].flatten()
        self._order = importance.argsort(descending=True) if self._names is None else torch.arange(len(importance))
        for i in self._order.tolist():
            reach = max(EXTENT, SHOWN_RANGE * values[:, i].abs().max().item())
            if self.kl is None:
                reach, detail = EXTENT * max(self.std[i].item(), 1e-6), f"σ {self.std[i].item():.2g}"
            else:
                detail = f"KL {self.kl[i].item():.2f} nats"
            centre = 0.0 if self.kl is not None else self.mean[i].item()
            yield Axis(f"dim {i}", "dimensions", i, detail, centre - reach, centre + reach, name=self._name(i))

    def _channels(self) -> Iterator[Axis]:
        channel_means = self.means[:, :MAX_CHANNELS].mean((2, 3))
        spread = self.means[:, :MAX_CHANNELS].std((0, 2, 3), correction=0).clamp_min(1e-6)
        for c, (centre, std) in enumerate(zip(channel_means.mean(0).tolist(), spread.tolist(), strict=True)):
            detail = f"σ {std:.2g}" if self.kl is None else f"KL {self.kl[c].sum().item():.1f} nats"
            low, high = centre - EXTENT * std, centre + EXTENT * std
            yield Axis(f"channel {c}", "channels", c, detail, low, high, name=self._name(c))

    def _name(self, channel: int) -> str:
        return "" if self._names is None else self._names[channel]

    def _directions(self, shares: torch.Tensor) -> Iterator[Axis]:
        for k, share in enumerate(shares.tolist()):
            yield Axis(f"direction {k + 1}", "directions", k, f"{100 * share:.0f} % of variance", -EXTENT, EXTENT)

    def _labels(self, labels: Mapping[str, Labels]) -> Iterator[Axis]:
        columns: dict[str, torch.Tensor] = {}
        for name, label in labels.items():
            values = torch.from_numpy(label.values[self.rows]).float()
            if label.names is None:
                columns[f"label {name}"] = values
            else:
                for k, category in enumerate(label.names):
                    columns[f"label {name}: {category}"] = (values == k).float()
        away = (self.means - self.mean).flatten(1)
        slopes: list[torch.Tensor] = []
        middles: list[torch.Tensor] = []
        for key, values in columns.items():
            deviation = values - values.mean()
            spread = deviation.square().sum()
            slope = (deviation[:, None] * away).sum(0) / spread.clamp_min(1e-12)
            if len(slopes) >= MAX_LABELS or not (spread > 0 and spread.isfinite()) or not slope.square().sum() > 0:
                continue
            correlation = torch.corrcoef(torch.stack([away @ slope, values]))[0, 1].item()
            low, high = values.min().item(), values.max().item()
            pad = 0.5 * (high - low)
            detail = f"correlation {correlation:.2f}"
            yield Axis(key, "labels", len(slopes), detail, low - pad, high + pad, values.mean().item())
            slopes.append(slope)
            middles.append(values.mean())
        if slopes:
            self.slopes = torch.stack(slopes).unflatten(1, self.mean.shape)
            self._label_means = torch.stack(middles)


def _principal(centred: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Principal directions (K, C, h, w) of length one, the standard deviation and the share of variance along each."""
    shape = centred.shape[1:]
    flat = centred.flatten(1)
    _, singular, directions = torch.linalg.svd(flat, full_matrices=False)
    variance = singular.square() / len(flat)
    total = variance.sum().clamp_min(1e-12)
    # Data that span fewer dimensions leave rounding errors, which are no directions.
    count = min(MAX_DIRECTIONS, int((variance > 1e-6 * total + 1e-12 * scale).sum()))
    directions = directions[:count]
    # A direction and its opposite are equivalent: make the largest component positive, so that results repeat.
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    directions = torch.where(largest < 0, -directions, directions)
    return directions.unflatten(1, shape), variance[:count].sqrt(), variance[:count] / total
