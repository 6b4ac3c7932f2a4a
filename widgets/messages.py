"""The door for messages of the front end: a field is what the function that takes it declares."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from vae_plugin.errors import UserError
from vae_plugin.json_types import accepted, declared_types, is_finite, misfits
from vae_plugin.wording import shown

LARGEST = 1e18  # of the numbers in a message: a product of two is a float32
DEEPEST = 8  # lists and objects within each other


def check_message(content: Any) -> None:
    """Refuse what is no JSON object, or holds what no request has: NaN, huge numbers, broken text, deep nesting.

    Raises:
        UserError: that names the field.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"a message was given as {shown(content)}: give an object with the field 'do'.")
    for name, value in content.items():
        _check(value, shown(name) if isinstance(name, str) and not name.isidentifier() else str(name), 1)


def fields(message: Any, function: Callable[..., Any], what: str) -> dict[str, Any]:
    """The keyword-only arguments of a function from the fields of the same names; other fields are left out.

    A trailing "_" does not belong to the field's name. An `Annotated` type may hold rules of `vae_plugin.arguments`.

    Args:
        message: an object of JSON.
        function: that takes the fields.
        what: the message is, for errors.

    Raises:
        UserError: if the message is no object, or a field is missing or of another type.
    """
    if not isinstance(message, Mapping):
        raise UserError(f"{what} is {shown(message)}: give an object.")
    declared = _declared(getattr(function, "__func__", function))
    given = {name: message[name] for name in declared if name in message}
    types = {name: field.type for name, field in declared.items()}
    for name, field in declared.items():
        if field.required and name not in given:
            raise UserError(f"{what} has no {name}: give {accepted(field.type)}.")
    for words in misfits(given, types):
        raise UserError(f"{what} cannot be done: {words}.")
    for name, value in given.items():
        for rule in declared[name].rules:
            rule.check(name, value, {})
    return {declared[name].parameter: value for name, value in given.items()}


class _Field(typing.NamedTuple):
    parameter: str
    type: Any
    rules: tuple[Any, ...]
    required: bool


@cache
def _declared(function: Callable[..., Any]) -> dict[str, _Field]:
    types, rules = declared_types(function), typing.get_type_hints(function, include_extras=True)
    return {
        name.removesuffix("_"): _Field(
            name, types[name], getattr(rules[name], "__metadata__", ()), parameter.default is parameter.empty
        )
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def _check(value: Any, name: str, depth: int) -> None:
    if depth > DEEPEST:
        raise UserError(f"{name} is nested more than {DEEPEST} levels deep, which no request is.")
    if isinstance(value, str):
        _check_text(value, name)
    elif isinstance(value, (int, float)):
        if not is_finite(value) or abs(value) > LARGEST:
            raise UserError(f"{name} is {shown(value)}: give a number from -{LARGEST:g} to {LARGEST:g}.")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_text(str(key), name)
            _check(item, f"{name}.{shown(key)}", depth + 1)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            _check(item, f"{name}[{number}]", depth + 1)


def _check_text(text: str, name: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{name} is {shown(text)}: give text without halves of characters (surrogates).") from error
