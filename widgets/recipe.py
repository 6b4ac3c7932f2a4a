"""How a latent came to be, as the Python that repeats it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

MAX_LITERAL = 64  # numbers of a latent that code spells out


@dataclass(frozen=True)
class Line:
    """A line of Python, a template of `str.format`: {lab} is the lab, {0}, {1}, ... are saved latents.

    Attributes:
        text: the line.
        saved: keys of the saved latents.
        imports: names of `vae_plugin.latents` that it uses.
        ids: whether it gives codes `ids` rather than a latent `z`.
    """

    text: str
    saved: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    ids: bool = False


@dataclass(frozen=True)
class Move:
    """The latent was moved along an axis, to a coordinate."""

    axis: str
    value: float

    @property
    def group(self) -> str:
        """Axes of one group are independent of each other, so that only the last move along each counts.

        Labels are not: each is a group of its own.
        """
        kind = self.axis.split()[0]
        return self.axis if kind == "label" else kind


@dataclass(frozen=True)
class Paint:
    """Places of one channel were changed by amounts, or of all channels set to those of another latent.

    Attributes:
        channel: its index; None for all.
        cells: what to add at (y, x), in order.
        source: Python of the latent to copy from, or None.
        saved: key of the saved latent that {0} in `source` stands for.
    """

    channel: int | None
    cells: dict[tuple[int, int], float]
    source: str | None = None
    saved: str | None = None


@dataclass(frozen=True)
class Token:
    """The code at a place was replaced: of several codes at a place, the one of a stage."""

    y: int
    x: int
    stage: int
    code: int


Step = Line | Move | Paint | Token


@dataclass(frozen=True)
class Recipe:
    """Steps, from an image or a saved latent to the current one."""

    steps: tuple[Step, ...] = ()

    def then(self, step: Step) -> Recipe:
        """With one more step; what it makes void is left out."""
        steps = self.steps
        if isinstance(step, Move):
            run = len(steps)
            while run and isinstance(steps[run - 1], Move) and steps[run - 1].group == step.group:
                run -= 1
            steps = steps[:run] + tuple(s for s in steps[run:] if s.axis != step.axis)
        elif isinstance(step, Token) and steps and isinstance(steps[-1], Token):
            place = (step.y, step.x, step.stage)
            run = len(steps)
            while run and isinstance(steps[run - 1], Token):
                run -= 1
            steps = steps[:run] + tuple(s for s in steps[run:] if (s.y, s.x, s.stage) != place)
        elif isinstance(step, Paint) and steps and isinstance(steps[-1], Paint):
            last = steps[-1]
            if replace(last, cells={}) == replace(step, cells={}):
                cells = dict(last.cells)
                for place, amount in step.cells.items():
                    cells[place] = cells.get(place, 0.0) + amount if step.source is None else 1.0
                return Recipe((*steps[:-1], replace(last, cells=cells)))
        return Recipe((*steps, step))

    def code(self, model: ModelCode, lab: str, saved: Callable[[str], str | None]) -> str:
        """Python that makes the latent `z` again, and the image of it.

        Args:
            model: how to call the model.
            lab: the name of the lab's variable.
            saved: the Python of a saved latent by its key, None if it is on the shelf no more.
        """
        lines: list[str] = []
        discrete = False
        for step in self.steps:
            on_codes = isinstance(step, Token) or (isinstance(step, Line) and step.ids)
            if isinstance(step, Token) and not discrete:
                lines.append(f"ids = {model.tokens}")
            elif discrete and not on_codes:
                lines.append(f"z = {model.codes}")
            discrete = on_codes
            lines.append(_line(step, lab, saved))
        if discrete:
            lines.append(f"z = {model.codes}")
        imports = sorted({name for step in self.steps if isinstance(step, Line) for name in step.imports})
        head = ["import torch"]
        head += [f"from vae_plugin.latents import {', '.join(imports)}"] if imports else []
        body = [*lines, f"image = {model.decode_ids if discrete else model.decode}  # (1, C, H, W)"]
        inside = "\n".join(f"    {line}" for text in body for line in text.splitlines())
        return "\n".join([*head, "", f"vae = {lab}.model", "with torch.no_grad():", inside]) + "\n"


@dataclass(frozen=True)
class ModelCode:
    """Python of what is asked of a model, in terms of z and ids."""

    decode: str
    tokens: str = ""
    codes: str = ""
    decode_ids: str = ""


def latent_literal(z: torch.Tensor, otherwise: str) -> str:
    """A latent as Python: its numbers, or `otherwise` if they are too many."""
    if z.numel() > MAX_LITERAL:
        return otherwise
    return f"torch.tensor({z.flatten().tolist()}).view{tuple(z.shape)}"


def escaped(text: str) -> str:
    """Text as it stands in the template of a `Line`."""
    return text.replace("{", "{{").replace("}", "}}")


def _line(step: Step, lab: str, saved: Callable[[str], str | None]) -> str:
    if isinstance(step, Line):
        return _with_saved(step.text, step.saved, lab, saved)
    if isinstance(step, Token):
        place = f"ids[{step.y}, {step.x}, {step.stage}]" if step.stage >= 0 else f"ids[{step.y}, {step.x}]"
        return f"{place} = {step.code}"
    if isinstance(step, Move):
        if step.group == "dim":
            return f"z[{step.axis.split()[1]}] = {step.value!r}"
        return f"z = {lab}.space.move(z, {step.axis!r}, {step.value!r})"
    ys, xs = [y for y, _ in step.cells], [x for _, x in step.cells]
    if step.source is not None:
        source = _with_saved(step.source, (step.saved,) if step.saved else (), lab, saved)
        if source.startswith("raise "):
            return source
        return f"z[:, {ys}, {xs}] = {source}[:, {ys}, {xs}]"
    amounts = [round(amount, 6) for amount in step.cells.values()]
    return f"z[{step.channel}, {ys}, {xs}] += torch.tensor({amounts})"


def _with_saved(text: str, keys: tuple[str, ...], lab: str, saved: Callable[[str], str | None]) -> str:
    found = [saved(key) for key in keys]
    if None in found:
        line = text.format(*(f or "REMOVED" for f in found), lab=lab)
        return f"raise KeyError('put what was removed on the shelf again')  # {line}"
    return text.format(*found, lab=lab)
