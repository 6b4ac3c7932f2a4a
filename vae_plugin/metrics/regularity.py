"""What a regularised latent space is for, continuity and completeness, as one of the measures of `evaluate`."""

from __future__ import annotations

from typing import Any

import torch

from ..autoencoders import Adapter, evaluation_mode
from ..errors import NotFiniteError
from ..models.distributed import objects_over_processes
from ..models.posteriors import DiagonalGaussian
from .completeness import AggregatePosterior, coverage_beside_images, prior_samples, small, why_no_prior
from .continuity import STEPS, continuity
from .measures import Seen
from .neighbours import NEAREST

PAIRS = 64
MOST_IMAGES = 2000  # whose distances are taken, half of them real


class Regularity:
    """`continuity` between images; of a Gaussian model what `coverage_beside_images` and `AggregatePosterior` tell too.

    Pairs are the first 64 times two images; the first 2,000 are compared with images from the prior, as pixels,
    averaged to at most 64 a side. All have to be of one size.

    Args:
        adapter: of the model.
        seed: of what is drawn.

    Attributes:
        notes: sentences about what is missing in `result`.
    """

    def __init__(self, adapter: Adapter, seed: int = 0) -> None:
        self._adapter, self._seed = adapter, seed
        self._aggregate = AggregatePosterior()
        self._ends: dict[int, torch.Tensor] = {}
        self._small: dict[int, torch.Tensor] = {}
        self.notes: list[str] = []

    def update(self, seen: Seen) -> None:
        """Take the images, and their posteriors."""
        if isinstance(seen.posterior, DiagonalGaussian):
            self._aggregate.update(seen.posterior, seen.numbers, self._seed)
            kept = [i for i, number in enumerate(seen.numbers) if number < MOST_IMAGES]
            if kept:
                self._small |= {seen.numbers[i]: image for i, image in zip(kept, small(seen.images[kept]), strict=True)}
        self._ends |= {
            number: image.float().cpu()
            for number, image in zip(seen.numbers, seen.images, strict=True)
            if number < 2 * PAIRS
        }

    def all_reduce(self) -> None:
        """Add what all processes have seen."""
        seen = objects_over_processes((self._aggregate, self._small, self._ends))
        self._aggregate, self._small, self._ends = AggregatePosterior(), {}, {}
        for aggregate, small_images, ends in seen:
            self._aggregate.merge(aggregate)
            self._small |= small_images
            self._ends |= ends

    def result(self) -> dict[str, Any]:
        """The measures by name; what is not known is absent, and `notes` says why.

        "continuity_mean", "continuity_worst", "continuity_largest" and "continuity_pairs", see `Continuity`, of paths
        of 16 steps; what `coverage_beside_images` gives; "aggregate_kl_nats" and "aggregate_mmd".
        """
        self.notes = []
        if len({image.shape for image in self._ends.values()}) != 1:
            self.notes.append("no continuity and completeness: the images have several sizes.")
            return {}
        with evaluation_mode(self._adapter.model), torch.no_grad():
            return self._paths() | self._prior()

    def _paths(self) -> dict[str, Any]:
        ends = [self._ends[number] for number in sorted(self._ends)]
        pairs = len(ends) // 2
        if not pairs:
            self.notes.append("no continuity: it takes two images.")
            return {}
        images = torch.stack(ends[: 2 * pairs])
        try:
            found = continuity(self._adapter, images[::2], images[1::2], STEPS)
        except ValueError as error:  # all decode alike, or to nothing finite
            self.notes.append(f"no continuity: {error}")
            return {}
        return {f"continuity_{name}": value for name, value in found._asdict().items()}

    def _prior(self) -> dict[str, Any]:
        if (reason := why_no_prior(self._adapter)) is not None:
            self.notes.append(f"no completeness: {reason}.")
            return {}
        result: dict[str, Any] = dict(self._aggregate.result())
        images = [self._small[number] for number in sorted(self._small)]
        if len(images) < 2 * NEAREST + 2:
            self.notes.append(f"no coverage: it takes {2 * NEAREST + 2} images or more.")
            return result
        height, width = next(iter(self._ends.values())).shape[-2:]
        try:
            generated = prior_samples(self._adapter, len(images) // 2, height, width, self._seed)
        except NotFiniteError as error:
            self.notes.append(f"no coverage: {error}")
            return result
        return result | coverage_beside_images(torch.stack(images), generated)
