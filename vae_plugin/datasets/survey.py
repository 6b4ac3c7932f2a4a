"""What a data set holds, counted by reason before anything is done with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from ..notices import some
from ..wording import number
from .images import ImageDataset

LOOKED_OVER = 1000  # images whose headers are read when a data set is opened
MOST_KINDS = 5


@dataclass(frozen=True)
class Survey:
    """What the headers of the first images say.

    Attributes:
        images: how many were looked at.
        complete: whether these are all.
        unreadable: name -> why, of those that cannot be used.
        sides: shorter side in pixels of each of the others.
    """

    images: int
    complete: bool
    unreadable: dict[str, str]
    sides: tuple[int, ...]

    def left_out(self, location: str) -> str | None:
        """A sentence on what cannot be used, counted by reason; None if there is nothing."""
        if not self.unreadable:
            return None
        reasons: dict[str, list[str]] = {}
        for name, reason in self.unreadable.items():
            reasons.setdefault(reason, []).append(name)
        listed = sorted(reasons.items(), key=lambda item: -len(item[1]))
        parts = [f"{len(names)} like {names[0]} ({reason.rstrip('.')})" for reason, names in listed[:MOST_KINDS]]
        more = f", and {len(listed) - MOST_KINDS} other reasons" if len(listed) > MOST_KINDS else ""
        first = "" if self.complete else "the first "
        usable = self.images - len(self.unreadable)
        return (
            f"{usable} of {first}{self.images} images in {location} can be used; left out are {', '.join(parts)}{more}."
        )


def survey(images: ImageDataset) -> Survey:
    """Read the headers of the first images."""
    unreadable, sides = {}, []
    for name, found in images.sides(LOOKED_OVER):
        if isinstance(found, int):
            sides.append(found)
        else:
            unreadable[name] = found.reason or str(found)
    return Survey(len(unreadable) + len(sides), len(images) <= LOOKED_OVER, unreadable, tuple(sides))


def enlarged(count: int, images: int, resolution: int, smallest: int) -> str:
    """The sentence on images that are smaller than the resolution."""
    return (
        f"{count:,} of {images:,} images are smaller than --resolution {resolution} and are enlarged (the smallest has "
        f"{smallest} pixels): --min_image_size {resolution} leaves them out."
    )


def clipped(names: Collection[str], value_range: tuple[float, float]) -> str:
    """The sentence on images with values beyond the range that was given."""
    low, high = map(number, value_range)
    return f"{len(names):,} image(s) have values beyond --value_range {low} {high}, which were clipped: {some(names)}."


def counts(
    location: str, images: int, ignored_files: Sequence[str], too_small: int = 0, unreadable: int | None = None
) -> str:
    """A line that says what was found, and by reason what of it is not used.

    Args:
        location: of the data.
        images: how many there are, those that cannot be read included.
        ignored_files: files of other kinds.
        too_small: how many further images are left out by `--min_image_size`.
        unreadable: how many of them cannot be used; None if that is not known.
    """
    endings = Counter(PurePath(file).suffix[1:].upper() or "without an ending" for file in ignored_files)
    most = sorted(endings.items(), key=lambda kind: (-kind[1], kind[0]))[:MOST_KINDS]
    others = len(ignored_files) - sum(count for _, count in most)
    parts = [
        f"{images + too_small + len(ignored_files):,} found",
        f"{images:,} to be read" if unreadable is None else f"{images - unreadable:,} usable",
        *(f"{count:,} {ending}" for ending, count in most),
        *([f"{others:,} others"] if others else []),
        *([f"{unreadable:,} unreadable"] if unreadable else []),
        *([f"{too_small:,} too small"] if too_small else []),
    ]
    return f"{location}: {', '.join(parts)}."
