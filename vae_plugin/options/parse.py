"""Options from the command line, a file, or Python."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ..wording import cut
from .declare import Declaration, OptionError, unknown
from .fields import Option, names_in, options_of
from .files import read_file
from .rules import has_effect, judge
from .values import as_typed, check_text

T = TypeVar("T")

TOKEN_FLAGS = ("--hub_token", "--token")
LONGEST_ERROR = 300  # characters
_PLACED = "placed_"  # before the name of a positional argument


def parse(cls: type[T], argv: Sequence[str] | None = None, *, prog: str | None = None, description: str = "") -> T:
    """Read options from the command line and the YAML file of `--config`.

    A flag wins over the file, also over options of the file that have no effect beside it. A value is written the same
    way in both. `null` or `none` stands for None where the type allows it. In the file a string needs no quotes, not
    even `mixed_precision: no`, and what is quoted is always a string. The result remembers what was given, see
    `given_in`.

    Args:
        cls: a dataclass whose fields are made by `option` and are int, float, str, bool, `tuple[X, ...]` or `X | None`,
            or made by `group`.
        argv: the arguments. Default: those of this process.
        prog: name of the command in the help.
        description: of the command in the help.

    Raises:
        OptionError: if the arguments or the file are not understood, or `cls` refuses them by a ValueError.
    """
    options = options_of(cls)
    known = names_in(options)
    argv = sys.argv[1:] if argv is None else argv
    argv = [re.sub("^--[^=]+", lambda flag: "--" + flag[0][2:].replace("-", "_"), argument) for argument in argv]
    argv = ["--help-all" if argument == "--help_all" else argument for argument in argv]
    given, rest = _parser(options, prog, description, "--help-all" in argv).parse_known_intermixed_args(argv)
    if any(word.partition("=")[0] in TOKEN_FLAGS for word in rest):
        raise OptionError(
            "a token on the command line can be read by others, and stays in the shell's history: leave it out, set "
            "HF_TOKEN or run `hf auth login`."
        )
    if rest:
        raise unknown(rest[0].partition("=")[0], ["--config", *(f"--{name}" for name in known)])
    flags: dict[str, Any] = {}
    shown: dict[str, str] = {}
    for name, opt in known.items():
        for key, where in ((name, f"--{name}"), (_PLACED + name, (opt.declaration.positional or name).upper())):
            value = getattr(given, key, None)
            if value is None or value == []:
                continue
            if opt.name in shown:
                raise OptionError(f"{shown[opt.name]} and {where} are the same option: give one of them.")
            shown[opt.name] = where
            flags[opt.name] = value if isinstance(value, bool) else opt.read(value, f"'{where}'")
    file: dict[str, Any] = {}
    complete = False
    if given.config is not None:
        path = check_text(given.config, Declaration(path=True), "config")
        file, complete = read_file(path, options, in_full(cls))
        if (read_at := getattr(cls, "read_at", None)) is not None:
            file = read_at(Path(path), file, flags)
    file = {name: value for name, value in file.items() if has_effect(options[name], flags)}
    return _make(cls, {**file, **flags}, file.keys() if complete else ())


def build(cls: type[T], values: Mapping[str, Any] | None = None, **more: Any) -> T:
    """Make options from Python values, by the same rules as `parse`.

    Args:
        cls: as for `parse`.
        values: by name.
        more: further values.

    Raises:
        OptionError: for a name or a value that is not accepted.
    """
    return _make(cls, {**(values or {}), **more})


def in_full(cls: type) -> frozenset[str]:
    """The names that stood in the files of a version that wrote every option, whether it was given or not."""
    return getattr(cls, "in_full", frozenset())


def _make(cls: type[T], values: Mapping[str, Any], excused: Collection[str] = ()) -> T:
    """The options from checked values; see `rules.judge` for those that are excused."""
    options: Mapping[str, Option] = options_of(cls)
    known = names_in(options)
    parts: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {}
    named: dict[str, str] = {}
    for name, value in values.items():
        if name not in known:
            raise unknown(str(name), known)
        opt = known[name]
        if opt.name in named:
            raise OptionError(f"--{named[opt.name]} and --{name} are the same option: give one of them.")
        named[opt.name] = name
        *of_group, field_name = opt.path
        (groups.setdefault(of_group[0], {}) if of_group else parts)[field_name] = opt.accept(value)
    for name, opt in options.items():
        if opt.declaration.required is not None and name not in named:
            raise OptionError(opt.declaration.required)
    flags = {opt.path: name for name, opt in options.items()}
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(cls)  # type: ignore[arg-type]  # T is a dataclass
    try:
        for field in fields:
            if "group" in field.metadata:
                parts[field.name] = _grouped(field, groups.get(field.name, {}), flags)
        made = cls(**parts)
    except OptionError:
        raise
    except ValueError as error:
        raise OptionError(str(error)) from error
    given = frozenset(
        name for name in named if options[name].get(made) is not None or options[name].default is not None
    )
    for owner in (made, *(getattr(made, field.name) for field in fields if "group" in field.metadata)):
        object.__setattr__(owner, "_given", given)
    object.__setattr__(made, "_excused", frozenset(excused))
    judge(made)
    check = getattr(made, "check", None)
    if check is not None:
        check()
    return made


def _grouped(field: dataclasses.Field[Any], values: dict[str, Any], flags: Mapping[tuple[str, ...], str]) -> Any:
    """The object of a group. An error of a plain class names its fields, which become the names of the flags."""
    try:
        return field.metadata["group"](**values)
    except ValueError as error:
        message = str(error)
        for inner in dataclasses.fields(field.metadata["group"]):
            flag = flags[(field.name, inner.name)]
            message = re.sub(rf"(?<![-\w]){inner.name}(?!\w)", f"--{flag}", message)
        raise OptionError(message) from error


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse puts the whole value into its errors.
        raise OptionError(cut(message, LONGEST_ERROR))


def _parser(options: Mapping[str, Option], prog: str | None, description: str, every: bool) -> argparse.ArgumentParser:
    # argparse gives the text of a flag, None where there is none; `Option.read` judges it as it judges the file's.
    placed = [opt for opt in options.values() if opt.declaration.positional]
    words = [f"{str(opt.declaration.positional).upper()}{' ...' * opt.many}" for opt in placed]
    has_common = any(opt.declaration.common for opt in options.values())
    short = has_common and not every
    closing = "These are the options that most runs need; --help-all lists the others too." if short else None
    parser = _Parser(
        prog=prog,
        description=description,
        usage=" ".join(["%(prog)s", *words, "[--option VALUE ...]"]),
        epilog=closing,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help="Show this message.")
    if has_common:
        parser.add_argument("--help-all", action="help", help="Show all options.")
    parser.add_argument("--config", metavar="FILE.yaml", help="YAML file of options; a flag wins over it.")
    groups: dict[str | None, Any] = {None: parser}
    for opt in options.values():
        hidden = short and not opt.declaration.common
        text = argparse.SUPPRESS if hidden else _help(opt, options)
        section = None if short else opt.section
        if section not in groups:
            groups[section] = parser.add_argument_group(section)
        metavar = "{" + ",".join(map(str, opt.declaration.choices)) + "}" if opt.declaration.choices else None
        metavar = f"NAME[={opt.declaration.weighted.upper()}]" if opt.declaration.weighted else metavar
        value: dict[str, Any] = {
            "metavar": metavar or opt.scalar.__name__.upper(),
            "nargs": "+" if opt.many else None,
        }
        if opt.declaration.alone:  # beside arguments by position, the flag takes one value each time
            value |= {"action": "append", "nargs": None} if placed else {"action": "extend"}
        if opt.scalar is bool:
            value = {"action": argparse.BooleanOptionalAction}
        for i, name in enumerate((opt.name, *opt.declaration.also)):
            help = text if i == 0 else argparse.SUPPRESS
            if opt.scalar is bool:
                parser.add_argument(
                    f"--no_{name}", dest=name, action="store_false", default=None, help=argparse.SUPPRESS
                )
            groups[section].add_argument(f"--{name}", default=None, help=help, **value)
        if opt.declaration.positional is not None:
            nargs = "*" if opt.many else "?"
            metavar = str(opt.declaration.positional).upper()
            parser.add_argument(_PLACED + opt.name, nargs=nargs, metavar=metavar, help=text, default=None)
    return parser


def _help(opt: Option, options: Mapping[str, Option]) -> str:
    """The help of an option, with the names of flags for those of fields, its other names, and its default."""
    flags = {other.path[-1]: name for name, other in options.items()}
    text = re.sub(r"`(\w+)`", lambda m: f"--{flags[m[1]]}" if m[1] in flags else m[0], opt.declaration.help)
    if opt.declaration.also:
        text += f" Also --{' and --'.join(opt.declaration.also)}."
    text += "" if opt.default in (None, (), "") else f" (default: {as_typed(opt.default)})"
    return text.replace("%", "%%")
