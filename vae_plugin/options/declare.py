"""The declaration of an option: everything that a dataclass field knows about itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..errors import UserError
from ..near import hint


class OptionError(UserError):
    """An option that was not understood or cannot work; the message is one sentence for the user."""


def unknown(name: str, known: Iterable[str], where: str = "") -> OptionError:
    """The error for a name that is no option."""
    return OptionError(f"unknown option {name!r}{where}: {hint(name, known, '--help lists the options.')}")


class _Given:
    def __repr__(self) -> str:
        return "GIVEN"


GIVEN: Any = _Given()  # the condition of `Declaration.when` that another option has any value at all


class Except(tuple):
    """The condition of `Declaration.when` that another option or fact has none of these values."""

    def __new__(cls, *values: Any) -> Except:
        return super().__new__(cls, values)


@dataclasses.dataclass(frozen=True)
class Declaration:
    """What is known of an option beside its name, its type and its default.

    Attributes:
        help: a sentence or two for `--help`.
        choices: the accepted values, of each item of a tuple; None is accepted wherever the type allows it.
        section: the heading in the help.
        flag: its name on the command line and in files, if that differs from the name of the field.
        also: other names for it.
        positional: its name in the help, if it may also stand on the command line by position, without a flag.
        required: the error if it is missing.
        at_least: smallest accepted value, of each item of a tuple.
        above: bound that the value must exceed.
        below: bound that the value must stay under.
        at_most: largest accepted value, of each item of a tuple. Default: see `values.LARGEST`.
        path: whether it names a file or folder, or may name one: a leading ~ is the home folder.
        alone: whether one value may stand for a list of one, in a file too, and the flag may be repeated.
        weighted: "weight", or what else a name of the list may have behind it, NAME=WEIGHT; a file may give a map.
        common: whether the short `--help` lists it, in a class that has such options.
        when: what it depends on: the name of another option or of a fact -> the values with which it has an effect,
            `GIVEN`, or `Except(...)` the values with which it has none. Otherwise it is refused if it is given.
        on_resume: whether it may change when a run is resumed.
        of_new_model: the field of a model's config that it sets; it must agree with an existing model.
        since: the version that introduced it, if that is later than 0.1.
        before: what runs did before it was introduced, if that is not its default: their continuations go on so.
    """

    help: str = ""
    choices: tuple[Any, ...] | None = None
    section: str | None = None
    flag: str | None = None
    also: tuple[str, ...] = ()
    positional: str | None = None
    required: str | None = None
    at_least: float | None = None
    above: float | None = None
    below: float | None = None
    at_most: float | None = None
    path: bool = False
    alone: bool = False
    weighted: str | None = None
    common: bool = False
    when: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    on_resume: bool = False
    of_new_model: str | None = None
    since: str | None = None
    before: Any = None


def option(default: Any, help: str, *, choices: Iterable[Any] | None = None, **more: Any) -> Any:
    """Declare a field of a dataclass as an option.

    Args:
        default: the value if neither the command line nor the file gives one.
        help: a sentence for `--help`.
        choices: the accepted values.
        more: further fields of `Declaration`.
    """
    declaration = Declaration(help, None if choices is None else tuple(choices), **more)
    return dataclasses.field(default=default, metadata={"option": declaration})


def group(cls: type, section: str, declarations: Mapping[str, Declaration] | None = None) -> Any:
    """Declare a field that holds a dataclass of options. On the command line and in files the options stay flat.

    Args:
        cls: a dataclass whose fields are made by `option`, or a plain one.
        section: the heading in the help.
        declarations: the options of a plain dataclass, by the names of its fields.
    """
    metadata = {"group": cls, "section": section, "declarations": declarations}
    return dataclasses.field(default_factory=cls, metadata=metadata)


def declared(cls: type, common: Mapping[str, Any], **fields: Mapping[str, Any]) -> dict[str, Declaration]:
    """Declare every field of a plain dataclass as an option.

    The help of each comes from the "Attributes:" section of the class's docstring, unless it is given here.

    Args:
        cls: the dataclass.
        common: fields of `Declaration` that all its options share.
        fields: further fields of `Declaration` for single options, by the name of the dataclass field.

    Raises:
        TypeError: for a field that the docstring does not document.
    """
    documented = attributes(cls)
    result = {}
    for field in dataclasses.fields(cls):
        settings = {**common, **fields.get(field.name, {})}
        settings["when"] = {**common.get("when", {}), **fields.get(field.name, {}).get("when", {})}
        if "help" not in settings:
            if field.name not in documented:
                raise TypeError(f"{cls.__name__}.{field.name} is not among the attributes of its docstring.")
            settings["help"] = documented[field.name]
        result[field.name] = Declaration(**settings)
    return result


def attributes(cls: type) -> dict[str, str]:
    """The "Attributes:" section of a class's docstring: name -> its description as a sentence."""
    section = re.search(r"^ *Attributes:\n(.*?)(\n\n|\Z)", cls.__doc__ or "", re.S | re.M)
    found: dict[str, str] = {}
    for name, words in re.findall(r"^ {8}(\w+): (.*?)(?=^ {8}\w+: |\Z)", section[1] if section else "", re.S | re.M):
        sentence = " ".join(words.split())
        found[name] = sentence[0].upper() + sentence[1:]
    return found


def names_of(declaration: Declaration, field_name: str) -> Collection[str]:
    """All names of an option, the main one first."""
    return (declaration.flag or field_name, *declaration.also)
