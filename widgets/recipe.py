"""How a latent came to be: steps that are calculated as `script` writes them, so that both agree to the bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

MOST_STEPS = 100  # of an operand, with those of its own operands


@dataclass(frozen=True)
class Expression:
    """Python that yields a value.

    Attributes:
        text: the expression.
        imports: what it uses, such as "vae_plugin.latents.slerp".
    """

    text: str
    imports: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Operand:
    """A latent, or a direction, that a step uses.

    Attributes:
        name: in words.
        value: its numbers, float32.
        recipe: how it came to be. Without steps, or after many, its numbers are written.
    """

    name: str
    value: torch.Tensor
    recipe: Recipe = field(default_factory=lambda: Recipe())

    def __post_init__(self) -> None:
        if self.recipe.size > MOST_STEPS:
            object.__setattr__(self, "recipe", Recipe())


@dataclass(frozen=True)
class Line:
    """Lines of Python, as a template of `str.format`: {0}, {1}, ... are the operands.

    Attributes:
        text: the lines.
        operands: what they use.
        imports: likewise, see `Expression`.
        ids: whether they assign indices `ids` rather than a latent `z`.
    """

    text: str
    operands: tuple[Operand, ...] = ()
    imports: tuple[str, ...] = ()
    ids: bool = False


@dataclass(frozen=True, eq=False)
class Reach:
    """How coordinates along a direction are counted: that of a latent z is <z - origin, direction> / norm + middle.

    Attributes:
        origin: (C, h, w), where it is `middle`.
        direction: (C, h, w).
        norm: what one coordinate adds to the product.
        step: how much of the direction is one coordinate.
        middle: the coordinate of the origin.
    """

    origin: torch.Tensor
    direction: torch.Tensor
    norm: float
    step: float
    middle: float = 0.0

    def coordinate(self, z: torch.Tensor) -> float:
        """The coordinate of a latent (C, h, w)."""
        return ((z - self.origin) * self.direction).sum().item() / self.norm + self.middle


@dataclass(frozen=True)
class Move:
    """A move along an axis, to a coordinate.

    Attributes:
        axis: key of the axis.
        value: the coordinate.
        reach: of a principal direction or a label; None for a dimension or channel.
        amount: what the direction is multiplied by, once the step was applied.
    """

    axis: str
    value: float
    reach: Reach | None = None
    amount: float = 0.0

    @property
    def group(self) -> str:
        """Steps of one group are independent of each other, so that only the last with each target counts.

        Moves along labels are not independent: each label is a group of its own.
        """
        kind = self.axis.split()[0]
        return self.axis if kind == "label" else kind

    def apply(self, z: torch.Tensor) -> tuple[torch.Tensor, Move]:
        """The latent after this step, and the step with what it added."""
        if self.reach is not None:
            amount = (self.value - self.reach.coordinate(z)) * self.reach.step
            return z + amount * self.reach.direction, replace(self, amount=amount)
        kind, number = self.axis.split()
        moved, i = z.clone(), int(number)
        if kind == "dim":
            moved[i] = self.value
        else:
            moved[i] += self.value - z[i].mean()
        return moved, self


@dataclass(frozen=True)
class Paint:
    """Strokes of the brush that add to one channel.

    Attributes:
        channel: number of the channel.
        cells: amount at each position (y, x), in order.
    """

    channel: int
    cells: dict[tuple[int, int], float]

    def apply(self, z: torch.Tensor) -> tuple[torch.Tensor, Paint]:
        """The latent after this step, and the step."""
        painted = z.clone()
        ys, xs = positions(self.cells)
        painted[self.channel, ys, xs] += torch.tensor(list(self.cells.values()), dtype=torch.float32)
        return painted, self

    def after(self, before: Paint) -> Paint | None:
        """One step instead of two; None if both are needed."""
        if before.channel != self.channel:
            return None
        cells = dict(before.cells)
        for position, amount in self.cells.items():
            cells[position] = cells.get(position, 0.0) + amount
        return Paint(self.channel, cells)


@dataclass(frozen=True)
class Copy:
    """Strokes of the brush that copy all channels from another latent.

    Attributes:
        cells: the channels (C,) at each position (y, x), in order.
    """

    cells: dict[tuple[int, int], torch.Tensor]

    def apply(self, z: torch.Tensor) -> tuple[torch.Tensor, Copy]:
        """The latent after this step, and the step."""
        painted = z.clone()
        ys, xs = positions(self.cells)
        painted[:, ys, xs] = self.values
        return painted, self

    @property
    def values(self) -> torch.Tensor:
        """What is copied, (C, positions)."""
        return torch.stack(list(self.cells.values()), 1)

    def after(self, before: Copy) -> Copy:
        """One step instead of two."""
        return Copy({**before.cells, **self.cells})


@dataclass(frozen=True)
class ChosenCode:
    """A code chosen at one position.

    Attributes:
        y: row of the position.
        x: column.
        stage: which of several codes at the position; -1 if there is one.
        index: index of the code.
    """

    y: int
    x: int
    stage: int
    index: int

    @property
    def target(self) -> object:
        """What the step sets."""
        return self.y, self.x, self.stage


Step = Line | Move | Paint | Copy | ChosenCode


@dataclass(frozen=True)
class Recipe:
    """Steps to the current latent.

    Attributes:
        steps: in order.
        base: number of the steps before the last run of steps that replace each other, and the latent after these:
            the run is calculated from there again when it changes.
    """

    steps: tuple[Step, ...] = ()
    base: tuple[int, torch.Tensor] | None = None

    def then(self, step: Line | ChosenCode) -> Recipe:
        """Add a step whose result is known, and leave out the choices of codes that it makes void."""
        if isinstance(step, Line):
            return Recipe((*self.steps, step))
        run = len(self.steps)
        while run and isinstance(self.steps[run - 1], ChosenCode):
            run -= 1
        return Recipe((*self.steps[:run], *(one for one in self.steps[run:] if _target(one) != step.target), step))

    def calculate(self, step: Move | Paint | Copy, z: torch.Tensor) -> tuple[Recipe, torch.Tensor]:
        """Add a step to the recipe of `z`, leave out the steps that it makes void, and calculate the latent."""
        start, latent = self.base or (len(self.steps), z)
        run = _joined(self.steps[start:], step)
        if run is None:
            start, latent, run = len(self.steps), z, (step,)
        base, done = (start, latent), []
        for one in run:
            latent, applied = one.apply(latent)
            done.append(applied)
        return Recipe((*self.steps[:start], *done), base), latent

    @cached_property
    def size(self) -> int:
        """How many steps are written, with those of the operands."""
        operands = [one.recipe.size for step in self.steps if isinstance(step, Line) for one in step.operands]
        return len(self.steps) + sum(operands)


def given(name: str, latent: torch.Tensor, indices: torch.Tensor | None = None) -> Recipe:
    """The recipe of a latent that is written by its numbers.

    Args:
        name: in words.
        latent: (C, h, w).
        indices: (h, w, indices per position), written instead; or None.
    """
    if indices is None:
        return Recipe((Line("z = {0}.clone()", (Operand(name, latent),)),))
    native = indices if indices.shape[-1] > 1 else indices[..., 0]
    return Recipe((Line("ids = {0}.clone()", (Operand(name, native.contiguous()),), ids=True),))


def positions(cells: Mapping[tuple[int, int], object]) -> tuple[list[int], list[int]]:
    """Rows and columns of positions."""
    return [y for y, _ in cells], [x for _, x in cells]


def _joined(run: Sequence[Step], step: Move | Paint | Copy) -> Sequence[Any] | None:
    """The last steps of a recipe with one more, which may replace some of them; None if it begins another run."""
    if isinstance(step, Move):
        moves = [one for one in run if isinstance(one, Move) and one.group == step.group]
        return [*(one for one in moves if one.axis != step.axis), step] if moves else None
    if len(run) != 1 or type(run[0]) is not type(step):
        return None
    joined = step.after(run[0])  # type: ignore[arg-type]
    return None if joined is None else [joined]


def _target(step: Step) -> object:
    return step.target if isinstance(step, ChosenCode) else None
