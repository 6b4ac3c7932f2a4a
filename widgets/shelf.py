"""Saved latents, and the one object that owns them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import chain, count
from typing import Any

import torch

from vae_plugin.arguments import Accepted, ArgumentError, Instance, Tensor, check
from vae_plugin.errors import UserError
from vae_plugin.widgets.outlet import whole
from vae_plugin.widgets.recipe import Recipe, given
from vae_plugin.wording import shown

MAX_SHELF = 1000  # latents, each with a picture that every view has

TEXT = Instance((str,), "text")
SAVED: dict[str, Accepted] = {
    "name": TEXT,
    "latent": Tensor(integer=None),
    "indices": Tensor(integer=True, optional=True),
    "recipe": Instance((Recipe,), "a Recipe"),
    "key": TEXT,
}

_keys = count(1)


@dataclass(frozen=True, eq=False)
class Saved:
    """A latent on the shelf.

    Attributes:
        name: unique on its shelf.
        latent: (C, h, w), float32.
        indices: (h, w, indices per position), decoded instead of the latent; or None.
        recipe: how it came to be; by default it is given by its numbers.
        key: identifies the latent when its name changes.
    """

    name: str
    latent: torch.Tensor
    indices: torch.Tensor | None = None
    recipe: Recipe = field(default_factory=Recipe, repr=False)
    key: str = field(default_factory=lambda: f"s{next(_keys)}", repr=False)

    def __post_init__(self) -> None:
        check(SAVED, vars(self))
        object.__setattr__(self, "name", whole(self.name))
        if not self.recipe.steps:
            object.__setattr__(self, "recipe", given(self.name, self.latent, self.indices))

    def renamed(self, name: str) -> Saved:
        """The same latent under another name."""
        return replace(self, name=name)

    def __repr__(self) -> str:
        return f"Saved({self.name!r}, latent {tuple(self.latent.shape)})"


class Shelf(tuple[Saved, ...]):
    """Saved latents in order, found by number or name: `shelf[0]`, `shelf["cat"]`."""

    def __new__(cls, items: Iterable[Saved] = ()) -> Shelf:
        """Make a shelf; a name that is taken already gets a number."""
        names: set[str] = set()
        keys: set[str] = set()
        unique = []
        for item in items:
            name = unused_name(item.name, names)
            if item.key in keys:
                item = replace(item, key=f"s{next(_keys)}")
            names.add(name)
            keys.add(item.key)
            unique.append(item if name == item.name else item.renamed(name))
        return super().__new__(cls, unique)

    def __getitem__(self, which: Any) -> Any:
        if not isinstance(which, str):
            try:
                return super().__getitem__(which)
            except TypeError as error:
                raise ArgumentError(f"{shown(which)} was given: give the number or the name of a latent.") from error
        for item in self:
            if item.name == which:
                return item
        known = ", ".join(repr(name) for name in self.names) or "none"
        raise KeyError(f"{which!r} is not on the shelf: there are {known}.")

    def by_key(self, key: object) -> Saved:
        """The latent with a key.

        Raises:
            UserError: if it is no longer there.
        """
        for item in self:
            if isinstance(key, str) and item.key == key:
                return item
        raise UserError("that latent is no longer on the shelf: choose another one.")

    @property
    def names(self) -> list[str]:
        """Names of the latents, in order."""
        return [item.name for item in self]


class ShelfKeeper:
    """The owner of a lab's shelf; everyone else reads it here, or observes it."""

    def __init__(self) -> None:
        self._shelf = Shelf()
        self._observers: list[Callable[[Shelf], None]] = []
        self._lock = threading.Lock()

    @property
    def shelf(self) -> Shelf:
        """The shelf as it is now; a shelf never changes, it is replaced."""
        return self._shelf

    def observe(self, observer: Callable[[Shelf], None]) -> None:
        """Call `observer` with the shelf after each change."""
        self._observers.append(observer)

    def replace(self, items: Iterable[Saved]) -> None:
        """Put these latents on the shelf instead of those that are there."""
        self._change(lambda _: items)

    def add(self, items: Iterable[Saved]) -> list[Saved]:
        """Put latents at the end of the shelf, and return them as they are named there."""
        added = list(items)
        shelf = self._change(lambda shelf: [*shelf, *added])
        return list(shelf)[len(shelf) - len(added) :]

    def remove(self, key: object) -> None:
        """Take a latent off the shelf; a `UserError` if it is not there."""
        self._shelf.by_key(key)
        self._change(lambda shelf: (item for item in shelf if item.key != key))

    def rename(self, key: object, name: str) -> None:
        """Give a latent another name; a `UserError` if it is not there."""
        self._shelf.by_key(key)
        self._change(lambda shelf: (item.renamed(name) if item.key == key else item for item in shelf))

    def _change(self, make: Callable[[Shelf], Iterable[Saved]]) -> Shelf:
        with self._lock:
            changed = Shelf(make(self._shelf))
            if len(changed) > MAX_SHELF:
                raise UserError(f"{len(changed):,} latents are too many for a shelf: keep {MAX_SHELF:,} at most.")
            self._shelf = changed
        for observer in self._observers:
            observer(self._shelf)
        return changed


def unused_name(name: str, taken: Iterable[str]) -> str:
    """`name`, or with a number behind it if it is taken."""
    taken = set(taken)
    return next(n for n in chain([name], (f"{name} ({i})" for i in count(2))) if n not in taken)
