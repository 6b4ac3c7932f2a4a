"""What was read so far: how many images, and how many could not be read or are enlarged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..datasets.survey import enlarged
from .failures import StepFailed

ENOUGH = 100  # images to judge by, or all if there are fewer


@dataclass(frozen=True)
class Enlarged:
    """Images smaller than the resolution.

    Attributes:
        count: of them.
        images: of all that were looked at.
        smallest: shorter side in pixels.
    """

    count: int = 0
    images: int = 0
    smallest: int = 0


class Intake:
    """Counts what this process reads.

    Args:
        limit: largest fraction that may be unreadable.
        resolution: of the run in pixels.
        size: number of training images; None of a stream.
    """

    def __init__(self, limit: float, resolution: int, size: int | None) -> None:
        self.limit, self.resolution, self.size = limit, resolution, size
        self.read, self.unreadable = 0, 0
        self.enlarged = Enlarged()

    def add(self, images: int, loaded: Mapping[str, Any]) -> None:
        """Count a batch of `ImageStream`, or one that `collate` made."""
        self.read += images
        self.unreadable += len(loaded["unreadable"]) + loaded.get("lost", 0)
        sides: Sequence[int] = loaded.get("sides", ())
        small = [side for side in sides if side < self.resolution]
        self.merge([self.enlarged, Enlarged(len(small), len(sides), min(small, default=0))])

    def merge(self, parts: Sequence[Enlarged]) -> None:
        """Count what all processes have seen."""
        smallest = min((part.smallest for part in parts if part.count), default=0)
        self.enlarged = Enlarged(sum(p.count for p in parts), sum(p.images for p in parts), smallest)

    def check(self, read: int, unreadable: int) -> None:
        """Judge the counts of all processes.

        Raises:
            StepFailed: if too many images cannot be read.
        """
        total = read + unreadable
        if total < min(ENOUGH, self.size or ENOUGH) or unreadable <= self.limit * total:
            return
        raise StepFailed(
            f"{unreadable:,} of the {total:,} images read so far cannot be read, more than --max_unreadable "
            f"{self.limit:g} allows",
            "Restore them, or allow more, and continue with --resume_from_checkpoint latest",
        )

    def sentence(self) -> str | None:
        """What is said at the end of images that were enlarged; None if none was."""
        seen = self.enlarged
        return enlarged(seen.count, seen.images, self.resolution, seen.smallest) if seen.count else None
