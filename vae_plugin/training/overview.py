"""What is said of the images of a run before it begins."""

from __future__ import annotations

from ..datasets import ImageDataset
from ..datasets.framing import WHOLE
from ..datasets.rules import DataRules
from ..datasets.survey import counts, enlarged
from ..errors import UserError
from ..options import given_in
from .settings import DataSettings


def look_over(every: ImageDataset, images: ImageDataset, settings: DataSettings, rules: DataRules) -> list[str]:
    """What a user should know of the images at the start; where they are many, what is small is counted on the way.

    Args:
        every: image that was found.
        images: those that are not too small.
        settings: of the data.
        rules: of the data.

    Raises:
        UserError: if too many of them cannot be read.
    """
    resolution, origin, found = settings.resolution or 0, every.origin, every.survey
    complete = found is not None and found.complete
    unreadable = len(found.unreadable) if complete else None
    line = counts(origin.location, len(images), origin.ignored_files, len(every) - len(images), unreadable)
    if not complete:
        # What is remote would be fetched twice, and whole images are counted by their buckets.
        images.counts_small = found is not None and settings.crop != WHOLE
        return [line]
    limit = unreadable_limit(settings, rules)
    if len(found.unreadable) > limit * found.images:
        name, reason = next(iter(found.unreadable.items()))
        raise UserError(
            f"{line[:-1]}, more than --max_unreadable {limit:g} allows (the first is {name}: {reason.rstrip('.')}): "
            "remove them, or allow more."
        )
    most = 0 if settings.crop == WHOLE else resolution
    small = [side for side in found.sides if (settings.min_image_size or 0) <= side < most]
    return [line, *([enlarged(len(small), len(images), resolution, min(small))] if small else [])]


def unreadable_limit(settings: DataSettings, rules: DataRules) -> float:
    """The fraction of images that may be unreadable."""
    return settings.max_unreadable if "max_unreadable" in given_in(settings) or rules.limit_unreadable else 1.0
