"""A recipe as Python that runs in any kernel, from the first line to the picture."""

from __future__ import annotations

import base64
import builtins
import keyword
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, count

import torch

from vae_plugin.widgets.recipe import ChosenCode, Expression, Line, Move, Operand, Paint, Recipe, Step, positions

MOST_NUMBERS = 64  # that are written out; more are packed
TAKEN = {
    *("vae", "z", "x", "ids", "image", "picture", "torch", "base64", "zlib", "as_image", "load_autoencoder", "to_pil"),
    *("analogy", "attribute_vector", "lerp", "slerp", "lab", "model"),
    *dir(builtins),
}


@dataclass(frozen=True)
class ModelCode:
    """Calls of a model, in terms of z and ids.

    Attributes:
        vae: the model itself.
        decode: the image of z.
        picture: the picture of `image`.
        indices: the indices of z.
        codes: the latent of ids.
        decode_indices: the image of ids.
    """

    vae: Expression
    decode: str
    picture: Expression
    indices: str = ""
    codes: str = ""
    decode_indices: str = ""


def script(recipe: Recipe, model: ModelCode) -> str:
    """Python that makes the latent `z` of a recipe, its image and its picture."""
    writer = _Writer(model)
    discrete = writer.write(recipe)
    writer.use(model.vae.imports, model.picture.imports)
    body = [
        *writer.lines,
        f"image = {model.decode_indices if discrete else model.decode}  # (1, C, H, W)",
        f"picture = {model.picture.text}",
    ]
    inside = "\n".join(f"    {line}" for text in body for line in text.splitlines())
    before = [*writer.head(), "", f"vae = {model.vae.text}", *writer.constants]
    return "\n".join([*before, "with torch.no_grad():", inside]) + "\n"


class _Writer:
    """Writes recipes, and those of their operands before them."""

    def __init__(self, model: ModelCode) -> None:
        self._model = model
        self.constants: list[str] = []
        self.lines: list[str] = []
        self._imports: set[str] = set()
        self._names: dict[tuple[int, torch.Size], str] = {}
        self._kept: list[torch.Tensor] = []
        self._packs = False

    def use(self, *imports: Iterable[str]) -> None:
        """Import what is used."""
        self._imports.update(chain(*imports))

    def head(self) -> list[str]:
        """The imports."""
        by_module: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self._imports):
            module, _, member = name.rpartition(".")
            by_module[module].append(member)
        packs = ["import base64", "import zlib", ""] if self._packs else []
        found = [f"from {module} import {', '.join(members)}" for module, members in sorted(by_module.items())]
        return [*packs, "import torch", *found]

    def write(self, recipe: Recipe) -> bool:
        """Write the steps of a recipe; returns whether `ids` are what is decoded, and not `z`."""
        for step in recipe.steps:  # first, because operands are calculated in z too
            for operand in step.operands if isinstance(step, Line) else ():
                self._operand(operand)
        discrete = False
        for step in recipe.steps:
            on_codes = isinstance(step, ChosenCode) or (isinstance(step, Line) and step.ids)
            if isinstance(step, ChosenCode) and not discrete:
                self.lines.append(f"ids = {self._model.indices}")
            elif discrete and not on_codes:
                self.lines.append(f"z = {self._model.codes}")
            discrete = on_codes
            self.lines.append(self._line(step))
        if discrete:
            self.lines.append(f"z = {self._model.codes}")
        return discrete

    def _line(self, step: Step) -> str:
        if isinstance(step, Line):
            self.use(step.imports)
            return step.text.format(*map(self._operand, step.operands))
        if isinstance(step, ChosenCode):
            target = f"ids[{step.y}, {step.x}, {step.stage}]" if step.stage >= 0 else f"ids[{step.y}, {step.x}]"
            return f"{target} = {step.index}"
        if isinstance(step, Move):
            return self._move(step)
        ys, xs = positions(step.cells)
        if isinstance(step, Paint):
            return f"z[{step.channel}, {ys}, {xs}] += torch.tensor({list(step.cells.values())})"
        return f"z[:, {ys}, {xs}] = {self._operand(Operand('painted', step.values))}"

    def _move(self, step: Move) -> str:
        if step.reach is not None:
            direction = self._operand(Operand(step.axis, step.reach.direction))
            return f"z = z + {step.amount!r} * {direction}  # {step.axis} = {step.value:.4g}"
        kind, i = step.axis.split()
        return f"z[{i}] = {step.value!r}" if kind == "dim" else f"z[{i}] += {step.value!r} - z[{i}].mean()"

    def _operand(self, operand: Operand) -> str:
        """The variable that holds an operand, written before it is used."""
        value = operand.value
        identity = (value.data_ptr(), value.shape)
        if identity in self._names:
            return self._names[identity]
        recipe = operand.recipe
        self._kept.append(value)  # so that no other has its address
        if value.numel() > MOST_NUMBERS and recipe.steps:
            self.write(recipe)
            name = self._named(operand.name, identity)
            self.lines.append(f"{name} = z")
            return name
        name = self._named(operand.name, identity)
        self.constants.append(f"{name} = {self._literal(value)}")
        return name

    def _named(self, words: str, identity: tuple[int, torch.Size]) -> str:
        stem = re.sub(r"\W+", "_", words, flags=re.ASCII).strip("_").lower()
        stem = stem if re.match("[a-z]", stem) else f"latent_{stem}".rstrip("_")
        taken = TAKEN | set(self._names.values())
        names = chain([stem], (f"{stem}_{i}" for i in count(2)))
        name = next(name for name in names if name not in taken and not keyword.iskeyword(name))
        self._names[identity] = name
        return name

    def _literal(self, value: torch.Tensor) -> str:
        """Python for a tensor, to the bit."""
        numbers = value.detach().contiguous()
        if numbers.numel() <= MOST_NUMBERS:
            return f"torch.tensor({numbers.flatten().tolist()}).view{tuple(numbers.shape)}"
        self._packs = True
        text = base64.b64encode(zlib.compress(numbers.numpy().tobytes())).decode()
        unpacked = f'bytearray(zlib.decompress(base64.b64decode("{text}")))'
        return f"torch.frombuffer({unpacked}, dtype={numbers.dtype}).view{tuple(numbers.shape)}"
