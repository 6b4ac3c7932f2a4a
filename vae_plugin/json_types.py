"""Whether a value from a JSON file is of the type that a field declares, and how a sentence names that type."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from .wording import either, shown

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


def declared_types(function: Callable[..., Any]) -> dict[str, Any]:
    """The type of each parameter, that of its default where it is not annotated."""
    hints = typing.get_type_hints(function)
    found = {}
    for name, parameter in list(inspect.signature(function).parameters.items()):
        annotation = hints.get(name, parameter.annotation)
        known = not isinstance(annotation, str) and annotation not in (Any, inspect.Parameter.empty)
        if parameter.default is None and known:
            annotation = annotation | None  # as is meant, though diffusers does not always say so
        if annotation is inspect.Parameter.empty or isinstance(annotation, str):
            default = parameter.default
            annotation = Any if default in (None, inspect.Parameter.empty) else type(default)
        found[name] = annotation
    return found


def misfits(values: Mapping[str, Any], declared: Mapping[str, Any]) -> list[str]:
    """For each value of another type than declared, what it is and what would be accepted."""
    return [
        f"{name} is {shown(value)}, expected {accepted(declared[name])}"
        for name, value in values.items()
        if name in declared and not fits(value, declared[name])
    ]


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value could have been written for a field of that type; true and false are no numbers."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in arguments)
    if origin is typing.Literal:
        return any(value == option and type(value) is type(option) for option in arguments)
    if annotation in (list, tuple) or origin in (list, tuple):
        if not isinstance(value, (list, tuple)):
            return False
        several = (
            origin is list or len(arguments) == 1 or Ellipsis in arguments
        )  # tuple[int] is any number to diffusers
        options = [arguments[0]] * len(value) if several and arguments else arguments or [Any] * len(value)
        return len(options) == len(value) and all(map(fits, value, options))
    if annotation is dict or origin is dict:
        of = arguments[1] if arguments else Any
        return isinstance(value, Mapping) and all(isinstance(k, str) and fits(v, of) for k, v in value.items())
    if annotation in (int, float):
        return isinstance(value, (int, annotation)) and not isinstance(value, bool) and is_finite(value)
    return isinstance(value, annotation)


def accepted(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return either([accepted(option) for option in arguments])
    if origin is typing.Literal:
        return either([f'"{option}"' for option in arguments])
    if annotation in (list, tuple) or origin in (list, tuple):
        if origin is tuple and len(set(arguments)) > 1 and Ellipsis not in arguments:
            return f"[{', '.join(map(accepted, arguments))}]"
        of = PLURALS.get(arguments[0]) if arguments else None
        if arguments and typing.get_origin(arguments[0]) is tuple and Ellipsis not in typing.get_args(arguments[0]):
            of = f"lists, each {accepted(arguments[0])}"
        number = f"{len(arguments)} " if origin is tuple and len(arguments) > 1 and Ellipsis not in arguments else ""
        return f"a list of {number}{of or 'lists'}"
    if annotation is dict or origin is dict:
        of = PLURALS.get(arguments[1]) if arguments else None
        return f"an object of {of}" if of else "an object"
    return WORDS.get(annotation, "another value")


def is_finite(value: float) -> bool:
    """Whether a number is neither NaN nor beyond what a float holds."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
