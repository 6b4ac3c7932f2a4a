"""Optimisers by name: those of torch, those of the package pytorch-optimizer, and classes of one's own."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args, get_type_hints

import torch
from torch.optim import Optimizer

from ..errors import UserError
from ..near import hint, nearest
from ..options import plain_number
from ..wording import either, shown
from .losses.own import own_object

ADAMW = "adamw"
# What runs begin with, of our own choice: for fine-tuning, 0.99 follows the gradients of a changing image loss.
ADAMW_DEFAULTS: Mapping[str, Any] = {"betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0}
EXTRA = "pip install 'vae-plugin[optimizers]'"
BY_OPTIONS = {  # arguments that options of their own set
    "lr": "--learning_rate",
    "betas": "--adam_beta1 and --adam_beta2",
    "eps": "--adam_epsilon",
    "weight_decay": "--adam_weight_decay",
}
KINDS: Mapping[type, str] = {bool: "true or false", float: "a number", str: "a word"}
WORDS: Mapping[str, Any] = {"true": True, "false": False, "none": None, "null": None}


@dataclass(frozen=True)
class OptimizerKind:
    """A class of optimisers, and what its signature says.

    Attributes:
        name: by which `--optimizer` gives it.
        make: the class.
        arguments: their defaults by name, `inspect.Parameter.empty` where there is none; without the parameters.
        types: their annotations by name, as far as there are any.
    """

    name: str
    make: type[Optimizer]
    arguments: Mapping[str, Any]
    types: Mapping[str, Any] = field(default_factory=dict)

    def default(self, argument: str) -> Any:
        """Its value unless another is given."""
        return (ADAMW_DEFAULTS if self.name == ADAMW else {}).get(argument, self.arguments[argument])

    def takes(self, argument: str) -> bool:
        """Whether one of `BY_OPTIONS` sets it: the options give a pair of betas, and one number for each other."""
        if argument not in self.arguments:
            return False
        value = self.default(argument)
        if argument == "betas":
            return isinstance(value, tuple) and len(value) == 2
        return _is_number(value)

    def read(self, words: Iterable[str]) -> dict[str, Any]:
        """The further arguments that `--optimizer_args` gives as NAME=VALUE.

        A value is a number, true, false, none, or a word; several with commas between them are a tuple.

        Raises:
            UserError: if the class has no such argument, or one of another type.
        """
        found: dict[str, Any] = {}
        known = [name for name in self.arguments if not (name in BY_OPTIONS and self.takes(name)) and name != "lr"]
        for word in words:
            name, separator, text = word.partition("=")
            if not separator or not name:
                raise UserError(f"--optimizer_args {shown(word)}: write NAME=VALUE, such as {self._example(known)}.")
            if name in found:
                raise UserError(f"--optimizer_args gives {name} twice: keep one.")
            if name not in known and name in self.arguments:
                raise UserError(f"--optimizer_args {word}: give {BY_OPTIONS[name]} instead.")
            if name not in known:
                accepted = f"it has {', '.join(known)}." if known else "it has none beside those with options."
                raise UserError(
                    f"--optimizer_args {word}: {self.name} has no argument {name!r}; {hint(name, known, accepted)}"
                )
            found[name] = value = _value(text)
            numbers = filter(_is_number, value if isinstance(value, tuple) else (value,))
            if not text.strip() or not all(map(math.isfinite, numbers)):
                raise UserError(f"--optimizer_args {word}: a value is a finite number, true, false, none or a word.")
            if name == "maximize" and value is True:
                raise UserError("--optimizer_args maximize=true would make the loss larger at each step: leave it out.")
            if (expected := _expected(value, self.arguments[name], self.types.get(name))) is not None:
                raise UserError(f"--optimizer_args {word}: {name} of {self.name} is {expected}, got {shown(text)}.")
        return found

    def _example(self, known: Iterable[str]) -> str:
        numbers = [name for name in known if _is_number(self.arguments[name])]
        return f"{numbers[0]}={self.arguments[numbers[0]]}" if numbers else "momentum=0.9"


def find_optimizer(name: str) -> OptimizerKind:
    """The class that a name means: of torch.optim, else of pytorch-optimizer, or MODULE:CLASS.

    Raises:
        UserError: if there is none.
    """
    own = torch_optimizers()
    if name in own:
        make = own[name]
    elif ":" in name:
        make = _imported(name)
    else:
        make = _of_library(name, own)
    parameters = list(inspect.signature(make).parameters.values())[1:]
    named = {p.name: p.default for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    try:
        types = get_type_hints(make.__init__)
    except (NameError, TypeError):  # of annotations that only a type checker can read
        types = {}
    return OptimizerKind(name, make, named, types)


def torch_optimizers() -> dict[str, type[Optimizer]]:
    """The classes of torch.optim by their names in small letters."""
    found = (cls for cls in vars(torch.optim).values() if inspect.isclass(cls) and issubclass(cls, Optimizer))
    return {cls.__name__.lower(): cls for cls in found if cls is not Optimizer}


def _of_library(name: str, own: Iterable[str]) -> type[Optimizer]:
    try:
        import pytorch_optimizer
    except ImportError as error:
        near = nearest(name, own)
        meant = f"Did you mean {either(map(repr, near))}? " if near else ""
        raise UserError(
            f"--optimizer is {shown(name)}, which torch.optim does not have. {meant}Those of pytorch-optimizer, such "
            f"as lion and prodigy, need {EXTRA}."
        ) from error
    known = {str(other).lower() for other in pytorch_optimizer.get_supported_optimizers()}
    if name not in known:
        some = f"give one of torch.optim ({', '.join(sorted(own))}), of pytorch-optimizer, or MODULE:CLASS."
        raise UserError(f"--optimizer is {shown(name)}: {hint(name, sorted({*own, *known}), some)}")
    try:
        return pytorch_optimizer.load_optimizer(name)
    except Exception as error:  # of the further package that one of them needs
        raise UserError(f"--optimizer {name} cannot be loaded: {' '.join(str(error).split())}") from error


def _imported(name: str) -> type[Optimizer]:
    found = own_object("optimizer", name, "CLASS", lambda named: named)
    if not (inspect.isclass(found) and issubclass(found, Optimizer)):
        raise UserError(f"--optimizer {name} is no subclass of torch.optim.Optimizer: give one that is.")
    return found


def _value(text: str) -> Any:
    if "," in text:
        return tuple(_value(part) for part in text.split(",") if part)
    word = text.strip()
    if word.lower() in WORDS:
        return WORDS[word.lower()]
    for kind in (int, float):
        try:
            return plain_number(word, kind)
        except ValueError:
            continue
    return word


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _expected(value: Any, default: Any, annotation: Any = None) -> str | None:
    """What a value should be beside such a default, or of such a type where that is None, in words; None if it is."""
    if isinstance(default, tuple):
        types = get_args(annotation) if len(get_args(annotation)) == len(default) else (None,) * len(default)
        fits = isinstance(value, tuple) and len(value) == len(default)
        fits = fits and all(_expected(*item) is None for item in zip(value, default, types, strict=True))
        return None if fits else f"{len(default)} values with commas between them"
    if value is None and default is None:
        return None
    kinds = _kinds(default, annotation)
    if not kinds or any(_is_number(value) if kind is float else isinstance(value, kind) for kind in kinds):
        return None
    return " or ".join(KINDS[kind] for kind in kinds)


def _kinds(default: Any, annotation: Any) -> list[type]:
    """The types among `KINDS` that a value may have; none where that is not known."""
    if default is None or default is inspect.Parameter.empty:
        parts = [part for part in get_args(annotation) or (annotation,) if part is not type(None)]
        found = [float if part is int else part for part in parts]
        return list(dict.fromkeys(found)) if all(part in KINDS for part in found) else []
    return [float] if _is_number(default) else [kind for kind in KINDS if isinstance(default, kind)]
