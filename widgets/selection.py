"""The images that are selected on the map, by hand or from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from vae_plugin.errors import UserError
from vae_plugin.wording import shown


class Selection:
    """Which of the lab's images are selected, and who is told when others are.

    Args:
        count: of the lab's images.

    Attributes:
        rows: numbers of the selected images, in ascending order.
    """

    def __init__(self, count: int) -> None:
        self.rows: tuple[int, ...] = ()
        self._count = count
        self._observers: list[Callable[[tuple[int, ...]], None]] = []

    def observe(self, observer: Callable[[tuple[int, ...]], None]) -> None:
        """Call `observer` with the rows after each change."""
        self._observers.append(observer)

    def choose(self, rows: Any) -> None:
        """Select these images instead of those that are selected.

        Raises:
            UserError: if one of them is no image of the lab.
        """
        chosen = self._checked(rows)
        if chosen == self.rows:
            return
        self.rows = chosen
        for observer in self._observers:
            observer(chosen)

    def _checked(self, rows: Any) -> tuple[int, ...]:
        if isinstance(rows, (str, bytes)) or not isinstance(rows, Iterable):
            raise UserError(f"a selection was given as {shown(rows)}: give the numbers of images, such as [0, 3].")
        found = set()
        for row in rows:
            if isinstance(row, (bool, np.bool_)) or not isinstance(row, (int, np.integer)):
                raise UserError(f"{shown(row)} was selected: give the numbers of images, such as [0, 3].")
            if not 0 <= row < self._count:
                raise UserError(f"image {row} was selected: the lab has images 0 to {self._count - 1}.")
            found.add(int(row))
        return tuple(sorted(found))
