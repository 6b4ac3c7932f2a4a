"""Options as a dataclass: each field is a flag of the command line, a key of a YAML file and a line of the help."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import yaml

from .errors import UserError
from .files import write_text

T = TypeVar("T")

TOKEN_FLAGS = ("--hub_token", "--token")
_NULL = "tag:yaml.org,2002:null"
_EXPECTED = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


class OptionError(UserError):
    """An option that was not understood; the message is one sentence for the user."""


def option(
    default: Any,
    help: str,
    choices: Iterable[Any] | None = None,
    group: str | None = None,
    positional: bool = False,
) -> Any:
    """A dataclass field for `parse`.

    Args:
        default: the value when neither the command line nor the file gives one.
        help: a sentence for `--help`.
        choices: the accepted values, of each item for a tuple; None is accepted wherever the type allows it.
        group: the heading under which `--help` lists the option.
        positional: it stands on the command line by its place, without its name.
    """
    metadata = {
        "help": help,
        "choices": None if choices is None else tuple(choices),
        "group": group,
        "positional": positional,
    }
    return dataclasses.field(default=default, metadata=metadata)


def parse(cls: type[T], argv: Sequence[str] | None = None, *, prog: str | None = None, description: str = "") -> T:
    """Read options from the command line and the YAML file of `--config`: a flag wins over the file.

    A value is written alike in both places. `null` or `none` stands for None where the type allows it. In the file a
    string needs no quotes, not even `mixed_precision: no`, and what is quoted is always a string.

    Args:
        cls: a dataclass whose fields are made by `option` and are int, float, str, bool, `tuple[X, ...]` or `X | None`.
        argv: the arguments; default: those of this process.
        prog: name of the command in the help.
        description: of the command in the help.

    Raises:
        OptionError: if the arguments or the file are not understood, or `cls` refuses them by a ValueError.
    """
    hints = get_type_hints(cls)
    options = {field.name: _Option.of(field, hints[field.name]) for field in dataclasses.fields(cls)}
    argv = sys.argv[1:] if argv is None else argv
    argv = [re.sub("^--[^=]+", lambda flag: "--" + flag[0][2:].replace("-", "_"), argument) for argument in argv]
    given, unknown = _parser(options, prog, description).parse_known_args(argv)
    if any(word.partition("=")[0] in TOKEN_FLAGS for word in unknown):
        raise OptionError(
            "a token on the command line can be read by others, and stays in the shell's history: leave it out, set "
            "HF_TOKEN or run `hf auth login`."
        )
    if unknown:
        raise _unknown(unknown[0].partition("=")[0], ["--config", *(f"--{name}" for name in options)])
    values = {} if given.config is None else _read_file(given.config, options)
    for name in options:
        if (value := getattr(given, name)) is not None:
            dashes = "" if options[name].field.metadata["positional"] else "--"
            values[name] = value if isinstance(value, bool) else options[name].read(value, f"'{dashes}{name}'")
    try:
        return cls(**values)
    except ValueError as error:
        raise OptionError(str(error)) from error


def to_dict(options: Any) -> dict[str, Any]:
    """The options by name with the types that YAML has: a tuple is a list."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(options).items()}


def save(options: Any, path: str | Path) -> None:
    """Write the YAML file from which `parse` with `--config` makes equal options."""
    lines = (  # YAML does not know that the string `none` needs quotes
        f'{name}: "{value}"\n' if value is not None and _is_null(value) else yaml.safe_dump({name: value})
        for name, value in to_dict(options).items()
    )
    write_text(Path(path), "".join(lines))


@dataclasses.dataclass(frozen=True)
class _Option:
    """A field and its type: a scalar, a tuple of them (`many`), or either of them and None (`optional`)."""

    field: dataclasses.Field
    scalar: type
    many: bool
    optional: bool

    @classmethod
    def of(cls, field: dataclasses.Field, annotation: Any) -> _Option:
        optional = type(None) in get_args(annotation)
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        kind = kinds[0] if optional and len(kinds) == 1 else annotation
        many = get_origin(kind) is tuple and get_args(kind)[1:] == (...,)
        scalar = get_args(kind)[0] if many else kind
        if scalar not in _EXPECTED or (many and scalar is bool):
            raise TypeError(f"option {field.name!r} is {annotation}: take int, float, str, bool, or tuple[X, ...].")
        return cls(field, scalar, many, optional)

    def read(self, value: Any, where: str) -> Any:
        """The option from words, as argparse or `_words` gives them; `where` names it in an error."""
        words = value if isinstance(value, list) else [value]
        if self.optional and len(words) == 1 and _is_null(words[0]):
            return None
        try:
            if isinstance(value, list) != self.many:
                raise ValueError
            values = tuple(_scalar(word, self.scalar) for word in words)
        except ValueError:
            expected = f"a list, {_EXPECTED[self.scalar]} each" if self.many else _EXPECTED[self.scalar]
            expected += " or null" if self.optional else ""
            got = "null" if value is None else repr(value)
            raise OptionError(f"option {where}: expected {expected}, got {got}.") from None
        choices = self.field.metadata["choices"]
        if choices is not None and not set(values) <= set(choices):
            raise OptionError(f"option {where}: got {value!r}, accepted are {', '.join(map(repr, choices))}.")
        return values if self.many else values[0]


class _Quoted(str):
    """A string that stands in quotes in a file: never a number, a bool or null."""

    def __repr__(self) -> str:
        return f"the quoted {str(self)!r}"


def _words(node: yaml.Node) -> Any:
    # The text as written rather than YAML 1.1's reading of it, in which 1e-4 is a string, 010 is 8 and `no` is False.
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == _NULL else _Quoted(node.value) if node.style else node.value
    return [_words(item) for item in node.value] if isinstance(node, yaml.SequenceNode) else {}


def _is_null(word: Any) -> bool:
    return word is None or (type(word) is str and word.lower() in ("null", "none"))


def _scalar(word: Any, scalar: type) -> Any:
    if not isinstance(word, str) or (isinstance(word, _Quoted) and scalar is not str):
        raise ValueError
    word = word.replace(".inf", "inf") if scalar is float else word
    value = yaml.SafeLoader.bool_values.get(word.lower()) if scalar is bool else scalar(word)
    if value is None or value != value:  # no word for a bool; not a number
        raise ValueError
    return value


def _read_file(path: str, options: dict[str, _Option]) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            root = yaml.compose(file, Loader=yaml.SafeLoader)
    except (OSError, yaml.YAMLError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise OptionError(f"cannot read the options in {path}: {reason}.") from error
    if root is None or root.tag == _NULL:  # an empty file
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise OptionError(f"cannot read the options in {path}: write a line 'option: value' for each.")
    values: dict[str, Any] = {}
    for key, node in root.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else "?"
        if isinstance(node, yaml.MappingNode):
            raise OptionError(f"option {name!r} in {path} is a nested map: write every option on the top level.")
        if name not in options:
            raise _unknown(name, options, f" in {path}")
        if name in values:
            raise OptionError(f"option {name!r} stands twice in {path}: keep one.")
        values[name] = options[name].read(_words(node), f"{name!r} in {path}")
    return values


def _unknown(name: str, known: Iterable[str], where: str = "") -> OptionError:
    near = [f"did you mean {known!r}?" for known in difflib.get_close_matches(name, list(known), n=1)]
    return OptionError(f"unknown option {name!r}{where}: {(near or ['--help lists the options.'])[0]}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(message)


def _parser(options: dict[str, _Option], prog: str | None, description: str) -> argparse.ArgumentParser:
    # argparse gives the text of a flag, None where there is none; `_Option.read` judges it as it judges the file's.
    placed = [name for name, opt in options.items() if opt.field.metadata["positional"]]
    usage = " ".join(["%(prog)s", *map(str.upper, placed), "[--option VALUE ...]"])
    parser = _Parser(prog=prog, description=description, usage=usage, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE.yaml", help="YAML file of options; a flag wins over it")
    groups: dict[str | None, Any] = {None: parser}
    for name, opt in options.items():
        default, choices, group = opt.field.default, opt.field.metadata["choices"], opt.field.metadata["group"]
        section = groups.get(group) or groups.setdefault(group, parser.add_argument_group(group))
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
        text = opt.field.metadata["help"] + ("" if default is None else f" (default: {shown})")
        metavar = "{" + ",".join(map(str, choices)) + "}" if choices else opt.scalar.__name__.upper()
        value: dict[str, Any] = {"metavar": metavar, "nargs": "+" if opt.many else None}
        if opt.scalar is bool:
            value = {"action": argparse.BooleanOptionalAction}
            parser.add_argument(f"--no_{name}", dest=name, action="store_false", default=None, help=argparse.SUPPRESS)
        if name in placed:
            parser.add_argument(name, nargs="?", metavar=name.upper(), help=text.replace("%", "%%"))
            continue
        section.add_argument(f"--{name}", default=None, help=text.replace("%", "%%"), **value)
    return parser
