"""Options that are lists of names with weights: NAME=WEIGHT, or NAME alone, whose weight is 1."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..near import hint
from .declare import Declaration, OptionError
from .values import LARGEST, plain_number, shown


def weights_of(items: Iterable[str]) -> dict[str, float]:
    """The weights by name, in the order given, of items that `checked_weights` returned."""
    return {name: float(weight or 1) for name, weight in map(_parted, items)}


def checked_weights(items: Sequence[str], rules: Declaration, name: str) -> tuple[str, ...]:
    """The items, each written in one way: the name alone where its weight is 1.

    Args:
        items: NAME or NAME=WEIGHT.
        rules: of the option.
        name: of the option.

    Raises:
        OptionError: if there is none, a weight is no number above 0, or a name is unknown or stands twice.
    """
    found: dict[str, float] = {}
    noun = rules.weighted or "weight"
    for item in items:
        key, weight = _parted(item)
        if len(parts := re.split(r"[\s,;]+", item.strip())) > 1:
            raise OptionError(f"--{name} is {shown(item)}: {_apart(parts, noun)}")
        if not key:
            raise OptionError(f"--{name} is {shown(item)}: give NAME={noun.upper()}, or NAME alone, whose {noun} is 1.")
        if rules.choices is not None and key not in rules.choices:
            accepted = f"accepted are {', '.join(map(str, rules.choices))}."
            raise OptionError(f"--{name} is {shown(key)}: {hint(key, map(str, rules.choices), accepted)}")
        if key in found:
            raise OptionError(f"--{name} names {shown(key)} twice: keep one.")
        found[key] = _number(item, weight, name, noun)
    if not found:
        raise OptionError(f"--{name} is an empty list: give at least one name, or leave it out.")
    return tuple(key if weight == 1 else f"{key}={weight!r}" for key, weight in found.items())


def _parted(item: str) -> tuple[str, str | None]:
    name, sign, weight = item.rpartition("=")
    return (name, weight) if sign else (item, None)


def _apart(parts: Sequence[str], noun: str) -> str:
    """What to do about an item that seems to be several."""
    if len(parts) == 2 and re.fullmatch(r"[^=]+=[0-9]+", parts[0]) and re.fullmatch(r"[0-9]+", parts[1]):
        return f"write a {noun} with a point, {'.'.join(parts)}."
    return f"give one after the other with spaces between them, {' '.join(filter(None, parts))}, or a list in a file."


def _number(item: str, weight: str | None, name: str, noun: str) -> float:
    try:
        value = 1.0 if weight is None else plain_number(weight, float)
    except ValueError:
        value = -1.0
    if not 0 < value <= LARGEST[float]:
        raise OptionError(f"--{name} is {shown(item)}: its {noun} must be a number above 0.")
    return value
