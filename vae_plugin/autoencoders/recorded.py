"""Read what a config records beside the fields of its class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UserError


def recorded(config: Mapping[str, Any], key: str, misfit: str | None) -> Any:
    """What a config records under a key; None if nothing.

    Args:
        config: of a model.
        key: such as "_value_range".
        misfit: what is wrong with it, in a clause; None if nothing.

    Raises:
        UserError: if something is wrong.
    """
    if misfit is not None:
        raise UserError(f"the configuration of this model cannot be: {misfit}.")
    return config.get(key)
