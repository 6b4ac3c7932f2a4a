"""Arithmetic with saved latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vae_plugin.errors import UserError
from vae_plugin.latents import analogy, attribute_vector, lerp, slerp
from vae_plugin.widgets.recipe import Line
from vae_plugin.widgets.shelf import Saved, Shelf


def combine(operation: Mapping[str, Any], shelf: Shelf, base: torch.Tensor) -> tuple[torch.Tensor, Line]:
    """The result of an operation on saved latents, and the line of Python for it.

    Args:
        operation: {"op": "analogy", "a", "b", "c"}, {"op": "sum", "weights": {key: weight}}, {"op": "between", "a",
            "b", "t", "method": "slerp" or "lerp"}, or {"op": "attribute", "with": [...], "without": [...], "strength"},
            which is added to `base`. Latents are named by their keys.
        shelf: the saved latents.
        base: (C, h, w).

    Raises:
        UserError: if the operation is unknown or a latent is missing.
    """
    operations = {"analogy": _analogy, "sum": _sum, "between": _between, "attribute": _attribute}
    kind = operation.get("op")
    if not isinstance(kind, str) or kind not in operations:
        raise UserError(f"unknown operation {kind!r}: use analogy, sum, between or attribute.")
    return operations[kind](operation, shelf, base)


def _analogy(operation: Mapping[str, Any], shelf: Shelf, _: torch.Tensor) -> tuple[torch.Tensor, Line]:
    a, b, c = items = [shelf.by_key(operation.get(name)) for name in "abc"]
    line = Line("z = analogy({0}.latent, {1}.latent, {2}.latent)", _keys(items), ("analogy",))
    return analogy(a.latent, b.latent, c.latent), line


def _sum(operation: Mapping[str, Any], shelf: Shelf, base: torch.Tensor) -> tuple[torch.Tensor, Line]:
    weights = {key: float(weight) for key, weight in operation.get("weights", {}).items() if weight}
    if not weights:
        raise UserError("every weight is 0: give at least one latent another weight.")
    items = [shelf.by_key(key) for key in weights]
    result = torch.zeros_like(base)
    for weight, item in zip(weights.values(), items, strict=True):
        result = result + weight * item.latent
    terms = " + ".join(f"{weight!r} * {{{i}}}.latent" for i, weight in enumerate(weights.values()))
    return result, Line(f"z = {terms}", _keys(items))


def _between(operation: Mapping[str, Any], shelf: Shelf, _: torch.Tensor) -> tuple[torch.Tensor, Line]:
    a, b = items = [shelf.by_key(operation.get(name)) for name in "ab"]
    method, t = operation.get("method", "slerp"), float(operation.get("t", 0.5))
    if method not in ("slerp", "lerp"):
        raise UserError(f"unknown method {method!r}: use slerp or lerp.")
    result = slerp(a.latent, b.latent, t) if method == "slerp" else lerp(a.latent, b.latent, t)
    return result, Line(f"z = {method}({{0}}.latent, {{1}}.latent, {t!r})", _keys(items), (method,))


def _attribute(operation: Mapping[str, Any], shelf: Shelf, base: torch.Tensor) -> tuple[torch.Tensor, Line]:
    with_, without = ([shelf.by_key(key) for key in operation.get(name, ())] for name in ("with", "without"))
    if not with_ or not without:
        raise UserError("an attribute is the difference of two groups: put at least one latent into each.")
    direction = attribute_vector(*(torch.stack([item.latent for item in group]) for group in (with_, without)))
    strength = float(operation.get("strength", 1.0))
    names = [f"{{{i}}}.latent" for i in range(len(with_) + len(without))]
    stacks = (f"torch.stack([{', '.join(part)}])" for part in (names[: len(with_)], names[len(with_) :]))
    text = f"z = z + {strength!r} * attribute_vector({', '.join(stacks)})"
    return base + strength * direction, Line(text, _keys(with_ + without), ("attribute_vector",))


def _keys(items: Sequence[Saved]) -> tuple[str, ...]:
    return tuple(item.key for item in items)
