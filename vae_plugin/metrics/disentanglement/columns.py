"""The columns of codes and factors: what is accepted, and how columns of real numbers become discrete."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from ...arguments import Tensor
from ...models.exact import exact

KINDS = ("continuous", "periodic", "categorical")  # a periodic factor is in turns: its values v and v + 1 are the same
BINS = 20  # of Locatello et al. 2019, so of most numbers in papers
CODES = Tensor("N D")
FACTORS = Tensor("N F", integer=None)


def check_columns(codes: torch.Tensor, factors: torch.Tensor) -> None:
    """Reject codes (N, D) and factors (N, F) of which no score can be computed.

    Raises:
        ValueError: if a value is not finite, if there is one image only, or if a factor is the same for all images.
    """
    for name, columns in (("codes", codes), ("factors", factors)):
        if not columns.isfinite().all():
            raise ValueError(f"{name} hold NaN or infinity: give finite ones.")
    constant = [number for number, column in enumerate(factors.unbind(1)) if is_constant(column)]
    if constant:
        raise ValueError(
            f"the factor(s) {', '.join(map(str, constant))} (from 0) are the same for all {len(factors)} image(s): "
            "leave them out, or give images in which they vary."
        )


def is_constant(column: torch.Tensor) -> bool:
    """Whether all values of (N,) are the same."""
    return bool((column == column[0]).all())


def kinds_of(factors: torch.Tensor, kinds: Sequence[str] | None) -> tuple[str, ...]:
    """The kind of every factor; of None integers are categories and the rest is continuous.

    Raises:
        ValueError: if there is not one of `KINDS` for every factor.
    """
    if kinds is None:
        kinds = ["continuous" if factors.is_floating_point() else "categorical"] * factors.shape[1]
    if not isinstance(kinds, (list, tuple)) or len(kinds) != factors.shape[1] or not all(k in KINDS for k in kinds):
        raise ValueError(
            f"kinds is {kinds!r}: give {', '.join(KINDS[:-1])} or {KINDS[-1]} for each of {factors.shape[1]} factor(s)."
        )
    return tuple(kinds)


def categories(column: torch.Tensor) -> torch.Tensor:
    """The distinct values of (N,), numbered from 0 in ascending order: (N,) int64."""
    return column.unique(return_inverse=True)[1]


def equal_bins(column: torch.Tensor, bins: int) -> torch.Tensor:
    """Bins of one width between the smallest and the largest value of (N,): (N,) int64 from 0; a constant has one."""
    values = exact(column).numpy()
    edges = np.linspace(values.min(), values.max(), bins + 1)
    return torch.from_numpy(np.digitize(values, edges[1:-1]))


def discrete(factors: torch.Tensor, kinds: Sequence[str], bins: int) -> list[torch.Tensor]:
    """Factors (N, F) as integers from 0, a column (N,) each: categories as they are, others in bins of one width."""
    return [_discrete(column, kind, bins) for column, kind in zip(factors.unbind(1), kinds, strict=True)]


def _discrete(column: torch.Tensor, kind: str, bins: int) -> torch.Tensor:
    if kind == "categorical":
        return categories(column)
    if kind == "continuous":
        return equal_bins(column, bins)
    return (exact(column).remainder(1) * bins).long().clamp(max=bins - 1)


def targets(column: torch.Tensor, kind: str) -> list[torch.Tensor]:
    """What stands for a factor (N,) where it is predicted: itself, or the two coordinates of its angle."""
    if kind != "periodic":
        return [column]
    angle = 2 * math.pi * exact(column)
    return [angle.cos(), angle.sin()]


def train_and_test(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two thirds of the numbers below `count`, and the rest, drawn by the seed."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    return order[: 2 * count // 3], order[2 * count // 3 :]
