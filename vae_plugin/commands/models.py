"""Several models that are given the same images, one of them in memory at a time."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from ..autoencoders import Adapter
from ..errors import UserError
from .processes import first_before_others
from .source import ModelPlace


class Models:
    """What several models have in common for whoever loads images for them, see `ImageTaker`, and each of them.

    All are opened once at first, one after the other, so that what cannot be compared is refused before anything is
    measured. Their weights are then given up, and read again when their turn comes.

    Args:
        places: of the models, by name.

    Attributes:
        places: of the models, by name.
        shells: adapters of them without weights, by name.

    Raises:
        UserError: if one cannot be opened, or they cannot be given the same images.
    """

    def __init__(self, places: Mapping[str, ModelPlace]) -> None:
        self.places = places
        self.shells: dict[str, Adapter] = {}
        self._kept: Adapter | None = None
        for name, place in places.items():
            adapter = first_before_others(place.open)
            if len(places) == 1:
                self._kept = adapter
            else:
                nn.Module.to(adapter.model, "meta")
            self.shells[name] = adapter
            self._check_beside_first(name, adapter)

    @contextmanager
    def opened(self, name: str) -> Iterator[Adapter]:
        """A model with its weights, for the time of the block."""
        adapter = self._kept or first_before_others(self.places[name].open)
        try:
            yield adapter
        finally:
            del adapter
            gc.collect()

    @property
    def first(self) -> Adapter:
        """The adapter of the first model, without weights."""
        return next(iter(self.shells.values()))

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        return self.first.in_channels

    @property
    def spatial_compression_ratio(self) -> int:
        """Sides that are multiples of this need no padding by any of the models."""
        return math.lcm(*(shell.spatial_compression_ratio for shell in self.shells.values()))

    @property
    def only_image_size(self) -> tuple[int, int] | None:
        """Height and width of the only images that they take, if one of them takes no others."""
        return next((size for shell in self.shells.values() if (size := shell.only_image_size) is not None), None)

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The values of image files that become -1 and 1, where the models record them."""
        return self.first.value_range

    @property
    def natural_resolution(self) -> int:
        """Side of the images unless another is asked for: that of a model that takes no other, or of the first."""
        fixed = (shell for shell in self.shells.values() if shell.only_image_size is not None)
        return next(fixed, self.first).natural_resolution

    def check_image_size(self, height: int, width: int, what: str) -> None:
        """Refuse images, which the error calls `what`, that one of the models does not take."""
        for name, shell in self.shells.items():
            try:
                if (only := shell.only_image_size) not in (None, (height, width)):
                    raise UserError(f"{what}: this model takes images of {only[0]} x {only[1]} pixels only.")
                shell.check_image_size(height, width, what)
            except UserError as error:
                if len(self.shells) == 1:
                    raise
                raise UserError(f"{name}: {error}") from error

    def _check_beside_first(self, name: str, adapter: Adapter) -> None:
        first_name, first = next(iter(self.shells.items()))
        if adapter.in_channels != first.in_channels:
            raise UserError(
                f"{name} takes images of {adapter.in_channels} channel(s) and {first_name} of {first.in_channels}: "
                "they cannot be measured on the same pixels, so evaluate them one by one."
            )
        if adapter.value_range != first.value_range:
            raise UserError(
                f"{name} and {first_name} record different values of images for black and white "
                f"({_shown(adapter.value_range)} and {_shown(first.value_range)}): evaluate them one by one."
            )


def _shown(value_range: tuple[float, float] | None) -> str:
    return "none" if value_range is None else f"{value_range[0]:g} to {value_range[1]:g}"
