"""Paths of this machine, and of any other, which are not published."""

from __future__ import annotations

import math
import os
import re
import shlex
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ..errors import UserError

T = TypeVar("T")

NAMELESS = "local"  # stands for a path that has no last component, or only that of a person
PATH_FIELD = re.compile(r"(name_or_path|_file|_path|_dir)$")
LINE = " \\\n    "  # between the options of the command in run.json

_START = r"(?:file://|[A-Za-z]:[\\/]|\\{2,}(?=[^\\\s])|~[\w.-]*(?=[\\/])|\.\.?[\\/]|/(?=[^/\s)-]))"
# Apostrophes are quotation marks only where a word begins or ends. Spaces of other scripts are letters of a name.
_LETTER = r"(?:[^ \t\r\n'\"`<>|]|(?<=\w)['\"`](?=\w))"
_PLAIN = r"(?:[^ \t\r\n'\"`<>|/\\]|(?<=\w)['\"`](?=\w))"  # no separator
WHOLE = re.compile(rf"{_START}|/|~[\w.-]*$|\.\.?$", re.IGNORECASE)
QUOTED = re.compile(
    rf"(?P<quote>['\"`])(?={_START})(?P<path>(?:(?!(?P=quote)(?!\w))[^\r\n])+)(?P=quote)", re.IGNORECASE
)
# A path in a sentence goes on after spaces if one of the next words has a separator inside.
IN_A_SENTENCE = re.compile(
    rf"(?<![\w/\\.~-]){_START}{_LETTER}*(?:(?: +{_PLAIN}+){{0,5}} +{_PLAIN}+[\\/]{_LETTER}*)*", re.IGNORECASE
)


def is_local(value: Any) -> bool:
    """Whether a value names a place on a machine rather than a repository on the Hub."""
    return isinstance(value, str) and (value[:1] == "." or WHOLE.match(value) is not None or _exists(value))


def public_name(value: T) -> T:
    """Reduce a local path, or each in a list, to its last component; return everything else as it is."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(public_name, value))
    return _last(value) if isinstance(value, str) and is_local(value) else value  # type: ignore[return-value]


def without_paths(value: T) -> T:
    """Reduce the paths in a value, and in all that it holds, to their last components.

    A string may be a path, by its shape, or a sentence with paths in it.
    """
    if isinstance(value, dict):
        return type(value)((without_paths(name), without_paths(item)) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return type(value)(map(without_paths, value))
    return _without_paths(value) if isinstance(value, str) else value  # type: ignore[return-value]


def without_path_fields(value: Any) -> Any:
    """Remove the entries with local paths in the configuration of a pipeline's part, and in all that it holds.

    They say where a part was loaded from, and nothing reads them; all other entries stay as they are.
    """
    if isinstance(value, dict):
        return {
            name: without_path_fields(item)
            for name, item in value.items()
            if not (PATH_FIELD.search(str(name)) and isinstance(item, str) and is_local(item))
        }
    return [without_path_fields(item) for item in value] if isinstance(value, list) else value


def command_without_paths(command: str) -> str:
    """Reduce the paths among the words of a shell command to their last components."""
    try:
        lines = [[without_paths(word) for word in shlex.split(line)] for line in command.split(LINE)]
    except ValueError:  # no closing quotation mark
        return without_paths(command)
    return LINE.join(map(shlex.join, lines))


def yaml_without_paths(text: str, name: str) -> str:
    """Reduce the paths among the values of a YAML file to their last components; other values stay as written.

    Raises:
        UserError: if it does not hold a map; `name` is for the message.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{name} cannot be read ({' '.join(str(error).split())}): correct it, or remove it.") from error
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise UserError(f"{name} does not hold options, one on a line: correct it, or remove it.")
    return "".join(_entry(text, key, node, name) for key, node in ([] if root is None else root.value))


def _entry(text: str, key: yaml.Node, node: yaml.Node, name: str) -> str:
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    if not all(isinstance(item, yaml.ScalarNode) for item in (key, *items)):
        raise UserError(f"{name} holds a map or list inside another: write every option on the top level.")
    if any(without_paths(item.value) != item.value for item in items):
        value = without_paths([item.value for item in items])
        return yaml.safe_dump({key.value: value if isinstance(node, yaml.SequenceNode) else value[0]}, width=math.inf)
    written = [text[item.start_mark.index : item.end_mark.index] for item in items]
    if isinstance(node, yaml.ScalarNode):
        return f"{key.value}: {written[0]}\n"
    return f"{key.value}:\n" + "".join(f"- {item}\n" for item in written) if items else f"{key.value}: []\n"


def _without_paths(text: str) -> str:
    if WHOLE.match(text) and "\n" not in text and _is_one_path(text):
        return _last(text)
    text = QUOTED.sub(lambda match: f"{match['quote']}{_last(match['path'])}{match['quote']}", text)
    return IN_A_SENTENCE.sub(_reduced, text)


def _is_one_path(text: str) -> bool:
    """Whether a text that begins like a path is nothing else: a sentence goes on with a mark and a space."""
    return re.search(r"[:;,.!?] [^\\/]*$", text) is None


def _reduced(match: re.Match[str]) -> str:
    path = match[0].rstrip(".,;:!?)]}")
    return _last(path) + match[0][len(path) :]


def _last(path: str) -> str:
    name = re.split(r"[\\/]+", path.rstrip("\\/"))[-1]
    of_a_person = name.startswith("~") or path.rstrip("\\/") == os.path.expanduser("~")
    return NAMELESS if of_a_person or name in ("", ".", "..") or re.fullmatch(r"[A-Za-z]:", name) else name


def _exists(value: str) -> bool:
    try:
        return Path(value).exists()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False
