"""What a config records beside the fields of its class, under names with an underscore."""

from __future__ import annotations

from typing import Any

from .latent_names import NAMES_KEY, recorded_names
from .padding import PADDING_KEY
from .value_range import RANGE_KEY, recorded_range

RECORDED = (PADDING_KEY, RANGE_KEY, NAMES_KEY)


def copy_records(source: Any, target: Any) -> None:
    """Record in a model that was converted from another what stays true: the range of images, the names of latents."""
    recorded = {RANGE_KEY: recorded_range(source.config), NAMES_KEY: recorded_names(source.config)}
    target.register_to_config(**{key: list(value) for key, value in recorded.items() if value is not None})
