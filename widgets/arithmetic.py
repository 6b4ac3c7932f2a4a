"""Arithmetic with latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch

from vae_plugin.errors import UserError
from vae_plugin.latents import analogy, attribute_vector, lerp, slerp
from vae_plugin.widgets.messages import fields
from vae_plugin.widgets.operands import Operands
from vae_plugin.widgets.recipe import Line
from vae_plugin.widgets.shelf import Saved
from vae_plugin.wording import shown

Operation = Callable[..., tuple[torch.Tensor, Line]]


def combine(operation: Mapping[str, Any], operands: Operands, base: torch.Tensor) -> tuple[torch.Tensor, Line]:
    """The result of an operation on latents, and the line of Python for it.

    Args:
        operation: {"op": "analogy", "a", "b", "c"}, {"op": "sum", "weights": {key: weight}}, {"op": "between", "a",
            "b", "t", "method": "slerp" or "lerp"}, or {"op": "attribute", "with": [...], "without": [...], "strength"},
            which is added to `base`. Latents are named by their keys.
        operands: finds the latents by their keys.
        base: (C, h, w).

    Raises:
        UserError: if the operation is unknown or a latent is missing.
    """
    operations: dict[str, Operation] = {"analogy": _analogy, "sum": _sum, "between": _between, "attribute": _attribute}
    kind = operation.get("op")
    if not isinstance(kind, str) or kind not in operations:
        raise UserError(f"unknown operation {shown(kind)}: use analogy, sum, between or attribute.")
    work = operations[kind]
    return work(operands, base, **fields(operation, work, f"the operation {kind!r}"))


def _analogy(operands: Operands, base: torch.Tensor, *, a: str, b: str, c: str) -> tuple[torch.Tensor, Line]:
    items = [operands.by_key(key) for key in (a, b, c)]
    line = Line("z = analogy({0}.latent, {1}.latent, {2}.latent)", _keys(items), ("analogy",))
    return analogy(*(item.latent for item in items)), line


def _sum(operands: Operands, base: torch.Tensor, *, weights: dict[str, float]) -> tuple[torch.Tensor, Line]:
    weights = {key: float(weight) for key, weight in weights.items() if weight}
    if not weights:
        raise UserError("every weight is 0: give at least one latent another weight.")
    items = [operands.by_key(key) for key in weights]
    result = torch.zeros_like(base)
    for weight, item in zip(weights.values(), items, strict=True):
        result = result + weight * item.latent
    terms = " + ".join(f"{weight!r} * {{{i}}}.latent" for i, weight in enumerate(weights.values()))
    return result, Line(f"z = {terms}", _keys(items))


def _between(
    operands: Operands,
    base: torch.Tensor,
    *,
    a: str,
    b: str,
    t: float = 0.5,
    method: Literal["slerp", "lerp"] = "slerp",
) -> tuple[torch.Tensor, Line]:
    items, t = [operands.by_key(key) for key in (a, b)], float(t)
    result = {"slerp": slerp, "lerp": lerp}[method](items[0].latent, items[1].latent, t)
    return result, Line(f"z = {method}({{0}}.latent, {{1}}.latent, {t!r})", _keys(items), (method,))


def _attribute(
    operands: Operands, base: torch.Tensor, *, with_: list[str], without: list[str], strength: float = 1.0
) -> tuple[torch.Tensor, Line]:
    groups = [[operands.by_key(key) for key in keys] for keys in (with_, without)]
    if not all(groups):
        raise UserError("an attribute is the difference of two groups: put at least one latent into each.")
    direction = attribute_vector(*(torch.stack([item.latent for item in group]) for group in groups))
    strength, items = float(strength), [*groups[0], *groups[1]]
    names = [f"{{{i}}}.latent" for i in range(len(items))]
    stacks = (f"torch.stack([{', '.join(part)}])" for part in (names[: len(with_)], names[len(with_) :]))
    text = f"z = z + {strength!r} * attribute_vector({', '.join(stacks)})"
    return base + strength * direction, Line(text, _keys(items), ("attribute_vector",))


def _keys(items: Sequence[Saved]) -> tuple[str, ...]:
    return tuple(item.key for item in items)
