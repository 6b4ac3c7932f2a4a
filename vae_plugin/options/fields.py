"""The options of a dataclass as one flat map, whatever groups they belong to."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from ..wording import cut
from .declare import Declaration, OptionError, names_of
from .values import LARGEST, LONGEST, as_typed, check_numbers, check_text, plain_number, shown
from .weighted import checked_weights

_OPTIONS: dict[type, Mapping[str, Option]] = {}  # by class, see `options_of`

EXPECTED = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


class Quoted(str):
    """A string that a file has in quotes: never a number, a bool or null."""

    def __repr__(self) -> str:
        return f"the quoted {str(self)!r}"


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of a dataclass. Its type is a scalar or a tuple of scalars, and may also allow None.

    Attributes:
        name: the flag without its dashes, and the key in files.
        path: the attributes that lead to the value: the field, preceded by its group if it has one.
        default: the value if it is not given.
        declaration: what the field knows about itself.
        section: the heading in the help.
        scalar: the type of the value, or of each item.
        many: whether the value is a tuple.
        optional: whether the value may be None.
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
        """Read a value from text, as argparse or a file holds it.

        Args:
            value: a string, a list of strings, or None for a null in a file.
            where: how an error names the option.

        Raises:
            OptionError: if it is not of the type, or not among the choices.
        """
        words = value if isinstance(value, list) else [value]
        if self.optional and len(words) == 1 and is_null(words[0]):
            return None
        value = words if self.declaration.alone else value
        try:
            if isinstance(value, list) != self.many:
                raise ValueError
            values = tuple(_scalar(word, self.scalar) for word in words)
        except ValueError:
            typed = isinstance(value, list) and where.startswith("'--")
            got = "null" if value is None else cut(as_typed(words), LONGEST) if typed else shown(value)
            raise OptionError(f"option {where}: expected {self._expected}, got {got}.") from None
        self._check_choices(values, value, where)
        return values if self.many else values[0]

    def accept(self, value: Any) -> Any:
        """Check a value from Python: an integer passes for a number, a list for a tuple, a path for a string.

        Names with weights may be a map.

        Raises:
            OptionError: if it is not of the type, not among the choices, out of bounds, or a path that cannot be.
        """
        if value is None and self.optional:
            return None
        if self.declaration.weighted and isinstance(value, Mapping):
            value = _weighted_items(value)
        if self.declaration.alone and not isinstance(value, (tuple, list)):
            value = (value,)
        if isinstance(value, (tuple, list)) != self.many:
            raise OptionError(f"option {self.name!r}: expected {self._expected}, got {shown(value)}.")
        items = [_converted(item, self.scalar) for item in (value if self.many else (value,))]
        if any(type(item) is not self.scalar for item in items):
            raise OptionError(f"option {self.name!r}: expected {self._expected}, got {shown(value)}.")
        self._check_choices(items, value, repr(self.name))
        if self.scalar in LARGEST:
            check_numbers(items, self.declaration, self.name, self.many)
        elif self.scalar is str:
            items = [check_text(item, self.declaration, self.name) for item in items]
        if self.declaration.weighted:
            return checked_weights(items, self.declaration, self.name)
        return tuple(items) if self.many else items[0]

    @property
    def _expected(self) -> str:
        expected = f"a list, {EXPECTED[self.scalar]} each" if self.many else EXPECTED[self.scalar]
        return expected + (", or null" if self.optional and self.many else " or null" if self.optional else "")

    def _check_choices(self, items: Collection[Any], value: Any, where: str) -> None:
        choices = self.declaration.choices
        if choices is not None and not self.declaration.weighted and not set(items) <= set(choices):
            raise OptionError(f"option {where}: got {shown(value)}, accepted are {', '.join(map(repr, choices))}.")

    def get(self, options: Any) -> Any:
        """The value in an instance of the dataclass."""
        for name in self.path:
            options = getattr(options, name)
        return options


def options_of(cls: type) -> Mapping[str, Option]:
    """All options of a dataclass by name."""
    if cls not in _OPTIONS:
        _OPTIONS[cls] = MappingProxyType({option.name: option for option in _options(cls)})
    return _OPTIONS[cls]


def names_in(options: Mapping[str, Option]) -> dict[str, Option]:
    """The options by every name that they have."""
    return {name: opt for opt in options.values() for name in (opt.name, *opt.declaration.also)}


def flat(options: Any) -> dict[str, Any]:
    """The values of an instance by the names of its options."""
    return {name: opt.get(options) for name, opt in options_of(type(options)).items()}


def to_dict(options: Any) -> dict[str, Any]:
    """The values by name, in the types of YAML and JSON: a tuple becomes a list, or its item if one may stand alone."""
    known = options_of(type(options))
    return {name: _plain(value, known[name].declaration.alone) for name, value in flat(options).items()}


def _plain(value: Any, alone: bool) -> Any:
    if not isinstance(value, tuple):
        return value
    return value[0] if alone and len(value) == 1 else list(value)


def given_in(options: Any) -> frozenset[str]:
    """The names of the options that were given when an instance, or a group of one, was made.

    All names, if the instance was not made by `parse` or `build`.
    """
    recorded: frozenset[str] | None = getattr(options, "_given", None)
    return frozenset(options_of(type(options))) if recorded is None else recorded


def excused_in(options: Any) -> frozenset[str]:
    """The names of the options that `rules.judge` does not refuse."""
    excused: frozenset[str] = getattr(options, "_excused", frozenset())
    return excused


def give(options: Any, name: str, value: Any) -> None:
    """Set a value as though it had been given when the instance was made."""
    _set(options, name, options_of(type(options))[name].accept(value), given_in(options) | {name})


def take_back(options: Any, name: str) -> None:
    """Set the default as though nothing had been given when the instance was made."""
    _set(options, name, options_of(type(options))[name].default, given_in(options) - {name})


def _set(options: Any, name: str, value: Any, given: frozenset[str]) -> None:
    owner = options
    path = options_of(type(options))[name].path
    for part in path[:-1]:
        owner = getattr(owner, part)
    setattr(owner, path[-1], value)
    for part in (options, owner):
        object.__setattr__(part, "_given", given)


def keep_what_was(then: Mapping[str, Any], now: Any) -> None:
    """Let a resumed run do what its checkpoint did before an option was introduced, unless that is given.

    Args:
        then: `to_dict` of the options when the checkpoint was written.
        now: the options of the resumed run.
    """
    for name, option in options_of(type(now)).items():
        if option.declaration.before is not None and name not in then and name not in given_in(now):
            owner = now
            for part in option.path[:-1]:
                owner = getattr(owner, part)
            setattr(owner, option.path[-1], option.declaration.before)


def changed(then: Mapping[str, Any], now: Any) -> dict[str, Any]:
    """Compare the options of a resumed run with those of its checkpoint.

    Args:
        then: `to_dict` of the options when the checkpoint was written. An option that it does not name had its default
            (or what is declared as `before`) if it was introduced later than 0.1; otherwise, names that only one of the
            two has are ignored.
        now: the options of the resumed run.

    Returns:
        The options that changed: name -> the value in the checkpoint. A path that is only written in another way has
        not.

    Raises:
        OptionError: for a changed option that a resumed run must keep. A path may change where the old one is gone and
            the new one has its last name: it was moved.
    """
    options, values = options_of(type(now)), to_dict(now)
    later = {
        name: _plain(opt.declaration.before or opt.default, opt.declaration.alone)
        for name, opt in options.items()
        if opt.declaration.since is not None
    }
    then = {**later, **then}
    found = {name: then[name] for name in values if name in then and values[name] != then[name]}
    for name, value in list(found.items()):
        path = options[name].declaration.path and isinstance(value, str) and isinstance(values[name], str)
        if path and os.path.abspath(value) == os.path.abspath(values[name]):
            del found[name]
        elif not options[name].declaration.on_resume and not (path and _was_moved(value, values[name])):
            was, now_is = as_typed(value), as_typed(values[name])
            raise OptionError(f"--{name} was {was} and is now {now_is}: a resumed run must keep it.")
    return found


def _was_moved(then: str, now: str) -> bool:
    is_path = os.path.isabs(then) or then.startswith(".")  # and no id of the Hub
    gone = is_path and not os.path.exists(then)
    return (
        gone
        and os.path.exists(now)
        and os.path.basename(os.path.abspath(then)) == os.path.basename(os.path.abspath(now))
    )


def is_null(word: Any) -> bool:
    """Whether a word in a file or on the command line means None."""
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


def _converted(item: Any, scalar: type) -> Any:
    if scalar is float and type(item) is int:
        return float(item) if abs(item) <= LARGEST[float] else math.inf if item > 0 else -math.inf
    return os.fspath(item) if scalar is str and isinstance(item, os.PathLike) else item


def _weighted_items(weights: Mapping[Any, Any]) -> Any:
    """The items that a map from names to weights stands for; what is no such map stays what it is."""
    if not all(isinstance(name, str) and type(weight) in (int, float) for name, weight in weights.items()):
        return weights
    return [f"{name}={_converted(weight, float)}" for name, weight in weights.items()]


def _scalar(word: Any, scalar: type) -> Any:
    if not isinstance(word, str) or (isinstance(word, Quoted) and scalar is not str):
        raise ValueError
    if scalar in LARGEST:
        return plain_number(word, scalar)
    value = yaml.SafeLoader.bool_values.get(word.lower()) if scalar is bool else str(word)  # no longer `Quoted`
    if value is None:  # no word for a bool
        raise ValueError
    return value
