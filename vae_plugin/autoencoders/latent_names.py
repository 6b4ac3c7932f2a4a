"""What the channels of a model's latents mean, such as x, y and radius, where the config records it.

They are recorded as the range of image files is (see `value_range`), in a model of any class:
`model.register_to_config(_latent_names=["x", "y", "radius"])`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..wording import shown
from .recorded import recorded

NAMES_KEY = "_latent_names"


def names_misfit(config: Mapping[str, Any]) -> str | None:
    """What is wrong with the names that a config records, in a clause; None if nothing."""
    names = config.get(NAMES_KEY)
    if names is None:
        return None
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name.strip() for name in names):
        return f"{NAMES_KEY} is {shown(names)}, expected a list of texts, one for each channel of the latents"
    if len(set(names)) < len(names):
        return f"{NAMES_KEY} is {shown(names)}, expected names that differ from each other"
    return None


def recorded_names(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names that a config records, one for each channel of the latents; None if it records none.

    Raises:
        UserError: if they are none.
    """
    names = recorded(config, NAMES_KEY, names_misfit(config))
    return None if names is None else tuple(names)
