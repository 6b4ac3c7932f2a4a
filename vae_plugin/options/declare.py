"""What a field of a dataclass knows about itself as an option."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..errors import UserError


class OptionError(UserError):
    """An option that was not understood or cannot work; the message is one sentence for the user."""


class _Given:
    def __repr__(self) -> str:
        return "GIVEN"


GIVEN: Any = _Given()  # the condition of `Declaration.when` that another option has any value at all


@dataclasses.dataclass(frozen=True)
class Declaration:
    """An option beside its name, its type and its default.

    Attributes:
        help: a sentence or two for `--help`.
        choices: the accepted values, of each item of a tuple; None is accepted wherever the type allows it.
        section: the heading in the help.
        flag: its name on the command line and in files, where that is not the name of the field.
        also: other names that are taken for it.
        positional: what the help calls it, if it may stand on the command line by its place, without its name.
        required: what to say if it is missing.
        at_least, above, below: bounds of the value, or of each item of a tuple.
        common: whether the short `--help` lists it, where a class has such options.
        when: what it depends on: another option, or a fact of the run, -> the values with which it has an effect, or
            `GIVEN`. Given otherwise, it is refused.
        on_resume: whether it may change when a run is continued.
        of_new_model: the name in a model's config of what it decides about a new model; an existing model has its own.
        since: the version that it appeared in, after 0.1.
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
    common: bool = False
    when: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    on_resume: bool = False
    of_new_model: str | None = None
    since: str | None = None


def option(default: Any, help: str, *, choices: Iterable[Any] | None = None, **more: Any) -> Any:
    """A field of a dataclass that is an option.

    Args:
        default: the value when neither the command line nor the file gives one.
        help: a sentence for `--help`.
        choices: the accepted values.
        more: further fields of `Declaration`.
    """
    declaration = Declaration(help, None if choices is None else tuple(choices), **more)
    return dataclasses.field(default=default, metadata={"option": declaration})


def group(cls: type, section: str, declarations: Mapping[str, Declaration] | None = None) -> Any:
    """A field that holds a dataclass of options; on the command line and in files they stand beside the others.

    Args:
        cls: whose fields are made by `option`, or which knows nothing of options.
        section: the heading in the help.
        declarations: of a class that knows nothing of options, by the names of its fields.
    """
    metadata = {"group": cls, "section": section, "declarations": declarations}
    return dataclasses.field(default_factory=cls, metadata=metadata)


def declared(cls: type, common: Mapping[str, Any], **fields: Mapping[str, Any]) -> dict[str, Declaration]:
    """Declarations for every field of a dataclass that knows nothing of options.

    The help is what the "Attributes:" of its docstring say, unless one is given.

    Args:
        cls: the dataclass.
        common: fields of `Declaration` that all share.
        fields: by name, those of single ones.

    Raises:
        TypeError: for a field that is not documented.
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
    """What the "Attributes:" of a docstring say, by name, each as a sentence."""
    section = re.search(r"^ *Attributes:\n(.*?)(\n\n|\Z)", cls.__doc__ or "", re.S | re.M)
    found: dict[str, str] = {}
    for name, words in re.findall(r"^ {8}(\w+): (.*?)(?=^ {8}\w+: |\Z)", section[1] if section else "", re.S | re.M):
        sentence = " ".join(words.split())
        found[name] = sentence[0].upper() + sentence[1:]
    return found


def names_of(declaration: Declaration, field_name: str) -> Collection[str]:
    """All names of an option, its own first."""
    return (declaration.flag or field_name, *declaration.also)
