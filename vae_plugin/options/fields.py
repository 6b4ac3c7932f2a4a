"""The options of a dataclass, flat, whatever groups they stand in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from .declare import Declaration, OptionError, names_of

EXPECTED = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


class Quoted(str):
    """A string that stands in quotes in a file: never a number, a bool or null."""

    def __repr__(self) -> str:
        return f"the quoted {str(self)!r}"


@dataclasses.dataclass(frozen=True)
class Option:
    """An option: its place, its declaration, and its type: a scalar, a tuple of them (`many`), or either and None.

    Attributes:
        name: on the command line and in files.
        path: of the value: the field, after that of its group if it is in one.
        default: of the field.
        declaration: what the field knows.
        section: the heading in the help.
        scalar: type of the value, or of each item.
        many: whether the value is a tuple.
        optional: whether it may be None.
    """

    name: str
    path: tuple[str, ...]
    default: Any
    declaration: Declaration
    section: str | None
    scalar: type
    many: bool
    optional: bool

    def read(self, value: Any, where: str) -> Any:
        """The value from words, as argparse or a file has them; `where` names it in an error."""
        words = value if isinstance(value, list) else [value]
        if self.optional and len(words) == 1 and is_null(words[0]):
            return None
        try:
            if isinstance(value, list) != self.many:
                raise ValueError
            values = tuple(_scalar(word, self.scalar) for word in words)
        except ValueError:
            expected = f"a list, {EXPECTED[self.scalar]} each" if self.many else EXPECTED[self.scalar]
            expected += " or null" if self.optional else ""
            got = "null" if value is None else repr(value)
            raise OptionError(f"option {where}: expected {expected}, got {got}.") from None
        choices = self.declaration.choices
        if choices is not None and not set(values) <= set(choices):
            raise OptionError(f"option {where}: got {value!r}, accepted are {', '.join(map(repr, choices))}.")
        return values if self.many else values[0]

    def check_bounds(self, value: Any) -> None:
        """Refuse a value outside the bounds.

        Raises:
            OptionError: saying which bound.
        """
        rules, each = self.declaration, "each number" if self.many else "it"
        bounds = [
            (f"at least {rules.at_least}", lambda v: rules.at_least is None or v >= rules.at_least),
            (f"above {rules.above}", lambda v: rules.above is None or v > rules.above),
            (f"below {rules.below}", lambda v: rules.below is None or v < rules.below),
        ]
        for item in () if value is None else value if self.many else (value,):
            for words, holds in bounds:
                if not holds(item):
                    shown = " ".join(map(str, value)) if self.many else value
                    raise OptionError(f"--{self.name} is {shown}: {each} must be {words}.")

    def get(self, options: Any) -> Any:
        """The value in an instance of the dataclass."""
        for name in self.path:
            options = getattr(options, name)
        return options


def options_of(cls: type) -> dict[str, Option]:
    """All options of a dataclass by name."""
    return {option.name: option for option in _options(cls)}


def names_in(options: Mapping[str, Option]) -> dict[str, Option]:
    """The options by all their names, also other names."""
    return {name: opt for opt in options.values() for name in (opt.name, *opt.declaration.also)}


def flat(options: Any) -> dict[str, Any]:
    """The values of an instance by name."""
    return {name: opt.get(options) for name, opt in options_of(type(options)).items()}


def to_dict(options: Any) -> dict[str, Any]:
    """The values by name, with the types that YAML and JSON have: a tuple is a list."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in flat(options).items()}


def given_in(options: Any) -> frozenset[str]:
    """Names of the options that were given when an instance was made; all, if that is not recorded."""
    recorded: frozenset[str] | None = getattr(options, "_given", None)
    return frozenset(options_of(type(options))) if recorded is None else recorded


def changed(then: Mapping[str, Any], now: Any) -> dict[str, Any]:
    """What a continued run has otherwise than when its checkpoint was written: name -> the value then.

    Args:
        then: `to_dict` of the options at that time; names that only one of both has are left out.
        now: the options.

    Raises:
        OptionError: for an option that must stay as it was.
    """
    options, values = options_of(type(now)), to_dict(now)
    found = {name: then[name] for name in values if name in then and values[name] != then[name]}
    for name, value in found.items():
        if not options[name].declaration.on_resume:
            raise OptionError(f"--{name} was {value} and is {values[name]}: a run that is continued keeps it.")
    return found


def is_null(word: Any) -> bool:
    """Whether a word stands for None."""
    return word is None or (type(word) is str and word.lower() in ("null", "none"))


def _options(cls: type) -> Iterator[Option]:
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if "group" in field.metadata:
            kind, declarations = field.metadata["group"], field.metadata["declarations"]
            inner_hints = get_type_hints(kind)
            for inner in dataclasses.fields(kind):
                declaration = inner.metadata.get("option") or (declarations or {}).get(inner.name)
                if declaration is None:
                    raise TypeError(f"{kind.__name__}.{inner.name} is not declared as an option.")
                section = field.metadata["section"]
                yield _option(inner, (field.name, inner.name), declaration, section, inner_hints[inner.name])
        elif "option" in field.metadata:
            declaration = field.metadata["option"]
            yield _option(field, (field.name,), declaration, declaration.section, hints[field.name])


def _option(
    field: dataclasses.Field, path: tuple[str, ...], declaration: Declaration, section: str | None, annotation: Any
) -> Option:
    name, *_ = names_of(declaration, field.name)
    optional = type(None) in get_args(annotation)
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    kind = kinds[0] if optional and len(kinds) == 1 else annotation
    many = get_origin(kind) is tuple and get_args(kind)[1:] == (...,)
    scalar = get_args(kind)[0] if many else kind
    if scalar not in EXPECTED or (many and scalar is bool):
        raise TypeError(f"option {field.name!r} is {annotation}: take int, float, str, bool, or tuple[X, ...].")
    return Option(name, path, field.default, declaration, section, scalar, many, optional)


def _scalar(word: Any, scalar: type) -> Any:
    if not isinstance(word, str) or (isinstance(word, Quoted) and scalar is not str):
        raise ValueError
    word = word.replace(".inf", "inf") if scalar is float else word
    value = yaml.SafeLoader.bool_values.get(word.lower()) if scalar is bool else scalar(word)
    if value is None or value != value:  # no word for a bool; not a number
        raise ValueError
    return value
