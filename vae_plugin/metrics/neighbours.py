"""How images from a model lie among images of the data: coverage and density, by nearest neighbours."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..arguments import Tensor, Whole, accepts
from ..models.exact import exact

ROWS = 256  # whose distances are in memory together
NEAREST = 5  # of Naeem et al. 2020


class Coverage(NamedTuple):
    """See `coverage_and_density`.

    Attributes:
        coverage: share of the real images that have a generated one near them, 0 to 1.
        density: how many neighbourhoods of real images a generated one lies in, over k; about 1 for real ones.
    """

    coverage: float
    density: float


@accepts(real=Tensor("N D ..."), generated=Tensor("M D ..."), k=Whole(1))
def coverage_and_density(real: torch.Tensor, generated: torch.Tensor, k: int = NEAREST) -> Coverage:
    """Coverage and density (Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics for Generative Models", 3.2).

    Around every real image is a ball that reaches to its k-th nearest other real image. Coverage is the share of balls
    with a generated image in them; density is the mean over generated images of the number of balls that they are in,
    divided by k. If both sets come from one distribution, then the expectations are `expected_coverage` and 1.

    Distances are Euclidean, between pixels or whatever features are given. Both measures depend on how many images
    there are: compare at the same N and M.

    Args:
        real: images or features, (N, ...), more than k.
        generated: likewise, (M, ...), with the same number of values each.
        k: which neighbour a ball reaches to.

    Raises:
        ValueError: if there are not more than k real images, the sizes differ or a value is not finite.
    """
    real, generated = (exact(vectors).flatten(1) for vectors in (real, generated))
    if len(real) <= k:
        raise ValueError(f"got {len(real)} real image(s): give more than k = {k}.")
    if real.shape[1] != generated.shape[1]:
        raise ValueError(
            f"real images have {real.shape[1]} values and generated ones {generated.shape[1]}: give images of one size."
        )
    if not (real.isfinite().all() and generated.isfinite().all()):
        raise ValueError("a vector holds NaN or infinity: give finite ones.")
    covered, in_balls = 0, 0
    for rows in real.split(ROWS):
        # The nearest is the image itself, or one that is just the same.
        radius = _distances(rows, real).kthvalue(k + 1, 1).values
        inside = _distances(rows, generated) <= radius[:, None]
        covered += int(inside.any(1).sum())
        in_balls += int(inside.sum())
    return Coverage(covered / len(real), in_balls / (k * len(generated)))


@accepts(real=Whole(1), generated=Whole(1), k=Whole(1))
def expected_coverage(real: int, generated: int, k: int = NEAREST) -> float:
    """The expectation of coverage if real and generated images are from one distribution, of any kind (Naeem et al.).

    Of an image, its N - 1 real and the M generated others, all orders are equally likely; it is not covered if the k
    nearest are all real: 1 - prod_{i=1..k} (N - i) / (N + M - i).

    Args:
        real: number of real images, N.
        generated: number of generated ones, M.
        k: which neighbour a ball reaches to.
    """
    uncovered = 1.0
    for i in range(1, k + 1):
        uncovered *= (real - i) / (real + generated - i)
    return 1 - uncovered


def _distances(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    return torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist")  # exact for equal images
