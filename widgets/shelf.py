"""Saved latents, and the arithmetic between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from typing import Any

import safetensors
import safetensors.torch
import torch

from ..errors import UserError
from ..latents import analogy, attribute_vector, lerp, slerp
from .codec import Codec
from .recipe import Line, Recipe

_keys = count(1)


@dataclass(frozen=True, eq=False)
class Saved:
    """A latent on the shelf.

    Attributes:
        name: unique on its shelf.
        latent: (C, h, w), float32.
        indices: codes that it is decoded from instead, (h, w, codes per place), or None.
        recipe: how it came to be.
        key: names it when its name is changed.
    """

    name: str
    latent: torch.Tensor
    indices: torch.Tensor | None = None
    recipe: Recipe = field(default_factory=Recipe, repr=False)
    key: str = field(default_factory=lambda: f"s{next(_keys)}", repr=False)

    def renamed(self, name: str) -> Saved:
        """The same under another name."""
        return replace(self, name=name)

    def __repr__(self) -> str:
        return f"Saved({self.name!r}, latent {tuple(self.latent.shape)})"


class Shelf(tuple):
    """Saved latents in order, found by their place or their name: `shelf[0]`, `shelf["cat"]`."""

    def __new__(cls, items: Iterable[Saved] = ()) -> Shelf:
        """Of items, of which a name that another has already gets a number."""
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
            return super().__getitem__(which)
        for item in self:
            if item.name == which:
                return item
        raise KeyError(f"{which!r} is not on the shelf: there are {', '.join(repr(i.name) for i in self) or 'none'}.")

    def by_key(self, key: object) -> Saved:
        """The item of a key.

        Raises:
            UserError: if it is not there any more.
        """
        for item in self:
            if item.key == key:
                return item
        raise UserError("that latent is not on the shelf any more: choose another one.")

    @property
    def names(self) -> list[str]:
        """In order."""
        return [item.name for item in self]


def unused_name(name: str, taken: Iterable[str]) -> str:
    """`name`, or with a number behind it if it is taken."""
    taken = set(taken)
    return next(n for n in chain([name], (f"{name} ({i})" for i in count(2))) if n not in taken)


def combine(operation: Mapping[str, Any], shelf: Shelf, base: torch.Tensor) -> tuple[torch.Tensor, Line]:
    """The result of an operation on saved latents, and the line of Python for it.

    Args:
        operation: {"op": "analogy", "a", "b", "c"}, {"op": "sum", "weights": {key: weight}}, {"op": "between", "a",
            "b", "t", "method": "slerp" or "lerp"}, or {"op": "attribute", "with": [...], "without": [...], "strength"},
            which is added to `base`. Latents are named by their keys.
        shelf: where they are.
        base: (C, h, w).

    Raises:
        UserError: if a latent is missing.
    """
    kind = operation.get("op")
    if kind == "analogy":
        items = [shelf.by_key(operation.get(name)) for name in "abc"]
        return analogy(*(item.latent for item in items)), Line(
            "z = analogy({0}.latent, {1}.latent, {2}.latent)", _keys_of(items), ("analogy",)
        )
    if kind == "sum":
        weights = {key: float(weight) for key, weight in operation.get("weights", {}).items() if weight}
        if not weights:
            raise UserError("every weight is 0: give at least one latent another weight.")
        items = [shelf.by_key(key) for key in weights]
        result = sum(weight * item.latent for weight, item in zip(weights.values(), items, strict=True))
        terms = " + ".join(f"{weight!r} * {{{i}}}.latent" for i, weight in enumerate(weights.values()))
        return result, Line(f"z = {terms}", _keys_of(items))
    if kind == "between":
        items = [shelf.by_key(operation.get(name)) for name in "ab"]
        method, t = operation.get("method", "slerp"), float(operation.get("t", 0.5))
        function = {"slerp": slerp, "lerp": lerp}.get(method)
        if function is None:
            raise UserError(f"the method is {method!r}: it must be slerp or lerp.")
        return function(*(item.latent for item in items), t), Line(
            f"z = {method}({{0}}.latent, {{1}}.latent, {t!r})", _keys_of(items), (method,)
        )
    if kind == "attribute":
        groups = [[shelf.by_key(key) for key in operation.get(name, ())] for name in ("with", "without")]
        if not all(groups):
            raise UserError("an attribute is what two groups differ in: put at least one latent into each of them.")
        direction = attribute_vector(*(torch.stack([item.latent for item in group]) for group in groups))
        strength = float(operation.get("strength", 1.0))
        stacks, first = [], 0
        for group in groups:
            stacks.append(f"torch.stack([{', '.join(f'{{{first + i}}}.latent' for i in range(len(group)))}])")
            first += len(group)
        text = f"z = z + {strength!r} * attribute_vector({', '.join(stacks)})"
        return base + strength * direction, Line(text, _keys_of(groups[0] + groups[1]), ("attribute_vector",))
    raise UserError(f"the operation is {kind!r}: it must be analogy, sum, between or attribute.")


def _keys_of(items: Sequence[Saved]) -> tuple[str, ...]:
    return tuple(item.key for item in items)


def _tensor_name(name: str) -> str:
    return f"_{name}" if name == "__metadata__" else name  # safetensors keeps that one for itself


def _indices(tensor: torch.Tensor | None, codec: Codec) -> torch.Tensor | None:
    """Codes of a file, if they are ones that the model has."""
    if tensor is None or not codec.discrete or tensor.dtype != torch.int64:
        return None
    model = codec.model
    fits = tuple(tensor.shape) == (*codec.latent_shape[1:], model.quantizer.codes_per_position)
    return tensor if fits and tensor.min() >= 0 and tensor.max() < model.codebook_size else None


def to_safetensors(items: Sequence[Saved], metadata: Mapping[str, str]) -> bytes:
    """Latents as a safetensors file, each under its name; codes of a token edit under "NAME.indices"."""
    tensors = {_tensor_name(item.name): item.latent.clone() for item in items}
    tensors |= {
        f"{_tensor_name(item.name)}.indices": item.indices.clone() for item in items if item.indices is not None
    }
    return safetensors.torch.save(tensors, dict(metadata))


def from_safetensors(data: bytes, codec: Codec) -> list[Saved]:
    """The latents of such a file that are a model's.

    Raises:
        UserError: if it is none, or has none of the model's shape.
    """
    shape = tuple(codec.latent_shape)
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError) as error:
        raise UserError(f"this file cannot be read as safetensors: {error}") from error
    found = [
        Saved(name, tensor.float(), _indices(tensors.get(f"{name}.indices"), codec))
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and tuple(tensor.shape) == shape and tensor.isfinite().all()
    ]
    if not found:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in list(tensors.items())[:3])
        raise UserError(f"this file has no latent of shape {tuple(shape)}; it has {shapes or 'nothing'}.")
    return found
