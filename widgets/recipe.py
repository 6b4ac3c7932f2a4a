"""How a latent came to be, as Python code that repeats it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

MAX_LITERAL = 64  # a latent with more numbers is not spelled out in code


@dataclass(frozen=True)
class Line:
    """A line of Python, as a template of `str.format`: {lab} is the lab, {0}, {1}, ... are saved latents.

    Attributes:
        text: the line.
        saved: keys of the saved latents.
        imports: names from `vae_plugin.latents` that it uses.
        ids: whether it assigns indices `ids` rather than a latent `z`.
    """

    text: str
    saved: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    ids: bool = False


@dataclass(frozen=True)
class Move:
    """A move along an axis, to a coordinate."""

    axis: str
    value: float

    @property
    def group(self) -> str:
        """Steps of one group are independent of each other, so that only the last with each target counts.

        Moves along labels are not independent: each label is a group of its own.
        """
        kind = self.axis.split()[0]
        return self.axis if kind == "label" else kind

    @property
    def target(self) -> object:
        """What the step sets."""
        return self.axis


@dataclass(frozen=True)
class Paint:
    """A brush stroke: amounts added to one channel, or all channels copied from another latent.

    Attributes:
        channel: number of the channel; None for all.
        cells: amount at each position (y, x), in order.
        source: Python that yields the latent to copy from, or None.
        saved: key of the saved latent that {0} in `source` stands for.
    """

    channel: int | None
    cells: dict[tuple[int, int], float]
    source: str | None = None
    saved: str | None = None


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
    def group(self) -> str:
        """All choices are independent of each other."""
        return "codes"

    @property
    def target(self) -> object:
        """What the step sets."""
        return self.y, self.x, self.stage


Step = Line | Move | Paint | ChosenCode


@dataclass(frozen=True)
class Recipe:
    """Steps from an image or a saved latent to the current latent."""

    steps: tuple[Step, ...] = ()

    def then(self, step: Step) -> Recipe:
        """Add a step, and leave out the steps that it makes void."""
        steps = self.steps
        last = steps[-1] if steps else None
        if isinstance(step, Paint) and isinstance(last, Paint) and replace(last, cells={}) == replace(step, cells={}):
            cells = dict(last.cells)
            for position, amount in step.cells.items():
                cells[position] = cells.get(position, 0.0) + amount if step.source is None else 1.0
            return Recipe((*steps[:-1], replace(last, cells=cells)))
        if isinstance(step, (Move, ChosenCode)):
            run = len(steps)
            while run and _group(steps[run - 1]) == step.group:
                run -= 1
            steps = steps[:run] + tuple(other for other in steps[run:] if _target(other) != step.target)
        return Recipe((*steps, step))

    def code(self, model: ModelCode, lab: str, saved: Callable[[str], str | None]) -> str:
        """Python that makes the latent `z` and its image again.

        Args:
            model: how to call the model.
            lab: name of the variable that holds the lab.
            saved: returns Python for a saved latent by its key, or None if it is no longer on the shelf.
        """
        lines: list[str] = []
        discrete = False
        for step in self.steps:
            on_codes = isinstance(step, ChosenCode) or (isinstance(step, Line) and step.ids)
            if isinstance(step, ChosenCode) and not discrete:
                lines.append(f"ids = {model.indices}")
            elif discrete and not on_codes:
                lines.append(f"z = {model.codes}")
            discrete = on_codes
            lines.append(_line(step, lab, saved))
        if discrete:
            lines.append(f"z = {model.codes}")
        imports = sorted({name for step in self.steps if isinstance(step, Line) for name in step.imports})
        head = ["import torch"]
        head += [f"from vae_plugin.latents import {', '.join(imports)}"] if imports else []
        body = [*lines, f"image = {model.decode_indices if discrete else model.decode}  # (1, C, H, W)"]
        inside = "\n".join(f"    {line}" for text in body for line in text.splitlines())
        return "\n".join([*head, "", f"vae = {lab}.model", "with torch.no_grad():", inside]) + "\n"


@dataclass(frozen=True)
class ModelCode:
    """Calls of a model, in terms of z and ids.

    Attributes:
        decode: the image of z.
        indices: the indices of z.
        codes: the latent of ids.
        decode_indices: the image of ids.
    """

    decode: str
    indices: str = ""
    codes: str = ""
    decode_indices: str = ""


def latent_literal(z: torch.Tensor, otherwise: str) -> str:
    """A latent as Python: its numbers, or `otherwise` if there are too many."""
    if z.numel() > MAX_LITERAL:
        return otherwise
    return f"torch.tensor({z.flatten().tolist()}).view{tuple(z.shape)}"


def escaped(text: str) -> str:
    """Escape text for the template of a `Line`."""
    return text.replace("{", "{{").replace("}", "}}")


def _group(step: Step) -> str | None:
    return step.group if isinstance(step, (Move, ChosenCode)) else None


def _target(step: Step) -> object:
    return step.target if isinstance(step, (Move, ChosenCode)) else None


def _line(step: Step, lab: str, saved: Callable[[str], str | None]) -> str:
    if isinstance(step, Line):
        return _with_saved(step.text, step.saved, lab, saved)
    if isinstance(step, ChosenCode):
        target = f"ids[{step.y}, {step.x}, {step.stage}]" if step.stage >= 0 else f"ids[{step.y}, {step.x}]"
        return f"{target} = {step.index}"
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
