"""Arithmetic with latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch

from vae_plugin.errors import UserError
from vae_plugin.latents import analogy, attribute_vector, lerp, slerp
from vae_plugin.widgets.messages import fields
from vae_plugin.widgets.operands import Operands
from vae_plugin.widgets.recipe import Line, Operand
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
    line = Line("z = analogy({0}, {1}, {2})", named(items), ("vae_plugin.latents.analogy",))
    return analogy(*(item.latent for item in items)), line


def _sum(operands: Operands, base: torch.Tensor, *, weights: dict[str, float]) -> tuple[torch.Tensor, Line]:
    weights = {key: float(weight) for key, weight in weights.items() if weight}
    if not weights:
        raise UserError("every weight is 0: give at least one latent another weight.")
    items = [operands.by_key(key) for key in weights]
    first, *rest = (weight * item.latent for weight, item in zip(weights.values(), items, strict=True))
    terms = " + ".join(f"{weight!r} * {{{i}}}" for i, weight in enumerate(weights.values()))
    return sum(rest, first), Line(f"z = {terms}", named(items))


def _between(
    operands: Operands,
    base: torch.Tensor,
    *,
    a: str,
    b: str,
    t: float = 0.5,
    method: Literal["slerp", "lerp"] = "slerp",
) -> tuple[torch.Tensor, Line]:
    return on_path(operands.by_key(a), operands.by_key(b), method, float(t))


def on_path(a: Saved, b: Saved, method: Literal["slerp", "lerp"], t: float) -> tuple[torch.Tensor, Line]:
    """The latent at `t` from 0 to 1 of the way between two saved ones, and the line of Python for it."""
    line = Line(f"z = {method}({{0}}, {{1}}, {t!r})", named((a, b)), (f"vae_plugin.latents.{method}",))
    return {"slerp": slerp, "lerp": lerp}[method](a.latent, b.latent, t), line


def _attribute(
    operands: Operands, base: torch.Tensor, *, with_: list[str], without: list[str], strength: float = 1.0
) -> tuple[torch.Tensor, Line]:
    groups = [[operands.by_key(key) for key in keys] for keys in (with_, without)]
    if not all(groups):
        raise UserError("an attribute is the difference of two groups: put at least one latent into each.")
    direction = attribute_vector(*(torch.stack([item.latent for item in group]) for group in groups))
    strength, items = float(strength), [*groups[0], *groups[1]]
    names = [f"{{{i}}}" for i in range(len(items))]
    stacks = (f"torch.stack([{', '.join(part)}])" for part in (names[: len(with_)], names[len(with_) :]))
    text = f"z = z + {strength!r} * attribute_vector({', '.join(stacks)})"
    return base + strength * direction, Line(text, named(items), ("vae_plugin.latents.attribute_vector",))


def named(items: Sequence[Saved]) -> tuple[Operand, ...]:
    """Saved latents as what a line of Python uses: they stay so when they leave the shelf."""
    return tuple(Operand(item.name, item.latent, item.recipe) for item in items)
