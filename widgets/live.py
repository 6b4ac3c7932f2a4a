"""A trait for large values: tensors and pictures."""

from __future__ import annotations

from typing import Any, TypeVar

import traitlets

T = TypeVar("T")


class Live(traitlets.TraitType[T, Any]):
    """A trait that counts as changed when it holds another object; numbers are not compared.

    What is assigned is validated, as for any trait; the owner writes its own values by `publish`, without validation.
    """

    default_value = None

    def publish(self, owner: traitlets.HasTraits, value: T | None) -> None:
        """Keep a value of the owner's own, and notify observers if it is another object."""
        assert self.name is not None  # set when the owner's class is made
        old = owner._trait_values.get(self.name)
        owner._trait_values[self.name] = value
        if value is not old:
            owner._notify_trait(self.name, old, value)

    def set(self, obj: traitlets.HasTraits, value: Any) -> None:
        """Validate, keep, and notify observers if it is another object."""
        self.publish(obj, self._validate(obj, value))
