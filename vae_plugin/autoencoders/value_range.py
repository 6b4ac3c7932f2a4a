"""The values of image files that a model takes as -1 and 1, where the files do not say it by their type.

They are recorded in the config of the model, as its padding is (see `padding`): whoever gets the weights, by a copy, a
checkpoint or the Hub, reads files as in training without being told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..json_types import is_finite
from ..wording import shown
from .recorded import recorded

RANGE_KEY = "_value_range"


def is_range(value: object) -> bool:
    """Whether something is two numbers, the lower one first."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return False
    return all(type(v) in (int, float) and is_finite(v) for v in value) and value[0] < value[1]


def range_misfit(config: Mapping[str, Any]) -> str | None:
    """What is wrong with the range that a config records, in a clause; None if nothing."""
    value = config.get(RANGE_KEY)
    if value is None or is_range(value):
        return None
    return f"{RANGE_KEY} is {shown(value)}, expected two numbers, the lower one first"


def recorded_range(config: Mapping[str, Any]) -> tuple[float, float] | None:
    """The range that a config records; None if it records none.

    Raises:
        UserError: if it is none.
    """
    value = recorded(config, RANGE_KEY, range_misfit(config))
    return None if value is None else (float(value[0]), float(value[1]))


def record_range(model: Any, value_range: tuple[float, float] | None) -> None:
    """Record a range in the config of a model; nothing for None."""
    if value_range is not None:
        model.register_to_config(**{RANGE_KEY: list(value_range)})
