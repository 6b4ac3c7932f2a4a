"""What a function accepts, checked before it computes: one sentence instead of what torch says somewhere below."""

from __future__ import annotations

import inspect
import math
import numbers
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Protocol, TypeVar

import torch

from .errors import UserError, is_out_of_memory
from .json_types import is_finite
from .wording import NO_VIDEOS, shown

Sizes = dict[str, tuple[Any, str]]
Function = TypeVar("Function", bound=Callable[..., Any])


class ArgumentError(UserError, TypeError):
    """An argument that is not accepted; the message says what was given and what is accepted."""


class Accepted(Protocol):
    """The rule of one argument."""

    def check(self, name: str, value: Any, sizes: Sizes) -> None:
        """Raise `ArgumentError` for a value that is not accepted.

        Args:
            name: of the argument.
            value: given.
            sizes: of the dimensions seen in earlier arguments: name -> (size, name of the argument); it is extended.
        """


@dataclass(frozen=True)
class Tensor:
    """A tensor of real numbers, with one of several shapes.

    Attributes:
        shapes: such as "B C H W": a letter stands for the same size in all arguments of a call, a number for itself,
            and "..." at the end for further dimensions, the same ones in all. Only B may be 0.
        integer: whether the numbers are integers rather than floating point; None for either.
        optional: whether None is accepted.
        also_numbers: whether a plain number is accepted too.
    """

    shapes: tuple[str, ...]
    integer: bool | None = False
    optional: bool = False
    also_numbers: bool = False

    def __init__(
        self, *shapes: str, integer: bool | None = False, optional: bool = False, also_numbers: bool = False
    ) -> None:
        for name, value in (
            ("shapes", shapes), ("integer", integer), ("optional", optional), ("also_numbers", also_numbers)
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    def check(self, name: str, value: Any, sizes: Sizes) -> None:
        """See `Accepted.check`."""
        if (value is None and self.optional) or (self.also_numbers and _is_number(value)):
            return
        kind = {True: "integer", False: "floating-point", None: "real"}[self.integer]
        if not isinstance(value, torch.Tensor):
            raise ArgumentError(f"{name} is {_shown(value)}: give a {kind} tensor of shape {self._expected()}.")
        kinds = (self.integer is not False and _is_integer(value)) or (
            self.integer is not True and value.is_floating_point()
        )
        if not kinds:
            raise ArgumentError(f"{name} is of {_dtype(value)}: give a {kind} tensor.")
        if value.is_meta or value.is_nested or value.layout != torch.strided:
            what = (
                "has no data (device meta)"
                if value.is_meta
                else f"is {'nested' if value.is_nested else _layout(value)}"
            )
            raise ArgumentError(f"{name} {what}: give a dense tensor with data.")
        reasons = [self._misfit(shape.split(), name, value, dict(sizes)) for shape in self.shapes]
        if self.shapes and None not in reasons:
            raise ArgumentError(next(filter(None, reversed(reasons))))
        if self.shapes:
            self._misfit(self.shapes[reasons.index(None)].split(), name, value, sizes)

    def _misfit(self, shape: Sequence[str], name: str, value: torch.Tensor, sizes: Sizes) -> str | None:
        """Why the value does not have that shape, None if it has; `sizes` is extended."""
        given = tuple(value.shape)
        fixed = [part for part in shape if part != "..."]
        if len(given) < len(fixed) or (len(given) > len(fixed) and "..." not in shape):
            videos = f": {NO_VIDEOS}" if shape[-3:] == ["C", "H", "W"] and len(given) == len(shape) + 1 else ""
            return f"{name} has the shape {given}: expected {self._expected()}{videos}."
        rest = [("...", given[len(fixed) :])] if "..." in shape else []
        for part, size in [*zip(fixed, given, strict=False), *rest]:
            other, source = (int(part), "") if part.isdigit() else sizes.setdefault(part, (size, name))
            if size != other:
                because = f", because {source} has {part} = {other}" if source and source != name else ""
                return f"{name} has the shape {given}: expected {self._expected()}{because}."
        if (0 in given[:1] and fixed[:1] != ["B"]) or 0 in given[1:]:
            return f"{name} has the shape {given}: no side of it may be 0."
        return None

    def _expected(self) -> str:
        return " or ".join(f"({shape.replace(' ', ', ')})" for shape in self.shapes) or "any shape"


@dataclass(frozen=True)
class Whole:
    """A whole number within bounds; `optional`: None is accepted too."""

    at_least: int = 0
    at_most: int = 2**31 - 1
    optional: bool = False

    def check(self, name: str, value: Any, sizes: Sizes) -> None:
        """See `Accepted.check`."""
        if value is None and self.optional:
            return
        try:
            whole = None if isinstance(value, (bool, torch.Tensor)) else operator.index(value)
        except TypeError:  # an array has `__index__` too, and refuses it unless it is a number
            whole = None
        if whole is None or not self.at_least <= whole <= self.at_most:
            bounds = (
                f"from {self.at_least} to {self.at_most}"
                if self.at_most < 2**31 - 1
                else f"of at least {self.at_least}"
            )
            raise ArgumentError(f"{name} is {_shown(value)}: give a whole number {bounds}.")


@dataclass(frozen=True)
class Real:
    """A finite number within bounds; `optional`: None is accepted too."""

    at_least: float = -math.inf
    at_most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    optional: bool = False

    def check(self, name: str, value: Any, sizes: Sizes) -> None:
        """See `Accepted.check`."""
        if value is None and self.optional:
            return
        if _is_number(value) and self.at_least <= value <= self.at_most and self.above < value < self.below:
            return
        bounds = [
            f"{words} {bound}"
            for words, bound in (
                ("at least", self.at_least), ("at most", self.at_most), ("above", self.above), ("below", self.below)
            )
            if math.isfinite(bound)
        ]  # fmt: skip
        raise ArgumentError(
            f"{name} is {_shown(value)}: give a finite number{' ' * bool(bounds)}{' and '.join(bounds)}."
        )


@dataclass(frozen=True)
class Instance:
    """An object of one of several classes, which the message calls `words`; `optional`: None is accepted too."""

    classes: tuple[type, ...]
    words: str
    optional: bool = False

    def check(self, name: str, value: Any, sizes: Sizes) -> None:
        """See `Accepted.check`."""
        if not (isinstance(value, self.classes) or (value is None and self.optional)):
            raise ArgumentError(f"{name} is {_shown(value)}: give {self.words}.")


@dataclass(frozen=True)
class Several:
    """A sequence whose items follow a rule, `least` of them or more."""

    item: Accepted
    least: int = 1

    def check(self, name: str, value: Any, sizes: Sizes) -> None:
        """See `Accepted.check`."""
        one_axis = isinstance(value, torch.Tensor) and value.ndim == 1
        if isinstance(value, str) or not (isinstance(value, Sequence) or one_axis):
            raise ArgumentError(f"{name} is {_shown(value)}: give a list.")
        if len(value) < self.least:
            raise ArgumentError(f"{name} has {len(value)} item(s): give at least {self.least}.")
        for number, item in enumerate(value.tolist() if isinstance(value, torch.Tensor) else value):
            self.item.check(f"{name}[{number}]", item, sizes)


def accepts(**rules: Accepted) -> Callable[[Function], Function]:
    """Check arguments, by their names, before a function is called; within `torch.compile` nothing is checked.

    The function then raises `ArgumentError`, which is a `ValueError` and a `TypeError`. What does not fit in memory is
    said in one sentence too.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        unknown = rules.keys() - signature.parameters.keys()
        assert not unknown, f"{function.__qualname__} has no argument {', '.join(unknown)}"

        key = f"{function.__module__}.{function.__qualname__}"
        _RULES[key] = (signature, rules)

        @wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling():
                return function(*args, **kwargs)
            _check_call(key, args, kwargs)
            try:
                return function(*args, **kwargs)
            except (MemoryError, RuntimeError) as error:
                if is_out_of_memory(error):
                    raise ArgumentError(f"{function.__name__} needs more memory than there is: give less.") from error
                raise

        return checked  # type: ignore[return-value]

    return decorate


# Of every function by its name, because `torch.compile` cannot see a rule in the closure of a method of a class.
_RULES: dict[str, tuple[inspect.Signature, dict[str, Accepted]]] = {}


def _check_call(key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    signature, rules = _RULES[key]
    given = signature.bind(*args, **kwargs).arguments
    check({name: rule for name, rule in rules.items() if name in given}, given)


def check(rules: dict[str, Accepted], values: Any) -> None:
    """Check values by their names; `values` is a mapping.

    Raises:
        ArgumentError: for the first that is not accepted.
    """
    sizes: Sizes = {}
    for name, rule in rules.items():
        rule.check(name, values[name], sizes)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and is_finite(value)  # type: ignore[arg-type]


def _is_integer(value: torch.Tensor) -> bool:
    return not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)


def _dtype(value: torch.Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _layout(value: torch.Tensor) -> str:
    return str(value.layout).removeprefix("torch.")


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}" if not value.is_nested else "a nested tensor"
    return shown(value) if isinstance(value, (str, int, float, bool, type(None))) else f"a {type(value).__name__}"
