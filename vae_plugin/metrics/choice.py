"""Which images of a set are looked at: those that tell most about each model, and others spread evenly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

EXTREMES = ("best", "median", "worst")


def extremes_of(psnr: Sequence[float]) -> dict[str, int]:
    """Where the best, the median and the worst image are in a list of PSNRs; of an even number the lower median.

    Without two different images the later ones of these are absent.
    """
    order = sorted(range(len(psnr)), key=lambda place: (psnr[place], place))
    places = (order[-1], order[(len(order) - 1) // 2], order[0])
    found: dict[str, int] = {}
    for name, place in zip(EXTREMES, places, strict=True):
        if place not in found.values():
            found[name] = place
    return found


def images_to_compare(psnr: Mapping[str, Sequence[float]], count: int) -> dict[int, tuple[str, ...]]:
    """Choose images for a comparison of models.

    Args:
        psnr: by the name of each model, the PSNR of the same images.
        count: how many to choose at most.

    Returns:
        The place of each chosen image in these lists, and what it is an extreme of: first the best, median and worst
        image of each model, then others, spread evenly over the list.
    """
    tags: dict[int, list[str]] = {}
    for model, values in psnr.items():
        for name, place in extremes_of(values).items():
            tags.setdefault(place, []).append(f"{name} of {model}" if len(psnr) > 1 else name)
    chosen = {place: tuple(of) for place, of in list(tags.items())[:count]}
    total = len(next(iter(psnr.values())))
    rest = [place for place in range(total) if place not in chosen]
    wanted = min(count, total) - len(chosen)
    return chosen | {rest[(2 * i + 1) * len(rest) // (2 * wanted)]: () for i in range(wanted)}
