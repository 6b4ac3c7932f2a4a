"""Options in YAML files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError
from ..files import write_text
from ..texts import decode
from .declare import OptionError, unknown
from .fields import Option, Quoted, given_in, is_null, names_in, to_dict

LARGEST_FILE = 1 << 18  # bytes; all options with their help are a tenth of it
STANDARD_TAGS = "tag:yaml.org,2002:"
_NULL = f"{STANDARD_TAGS}null"


def save(
    options: Any, path: str | Path, without: Collection[str] = (), instead: Mapping[str, Any] | None = None
) -> None:
    """Write the YAML file from which `parse` with `--config` makes equal options: what was given, and nothing else.

    Args:
        options: an instance of the dataclass.
        path: of the file.
        without: names that are left out although they were given.
        instead: name -> value that is written, whether or not one was given.
    """
    instead = instead or {}
    given = given_in(options) - set(without) | instead.keys()
    lines = (  # YAML does not know that the string `none` needs quotes
        f'{name}: "{value}"\n' if value is not None and is_null(value) else yaml.safe_dump({name: value})
        for name, value in {**to_dict(options), **instead}.items()
        if name in given
    )
    write_text(Path(path), "".join(lines))


def read_file(
    path: str, options: Mapping[str, Option], in_full: frozenset[str] = frozenset()
) -> tuple[dict[str, Any], bool]:
    """The values that a file gives, by the names of the options.

    Args:
        path: of the file.
        options: by name.
        in_full: names that stood in every file of a version that wrote all options, given or not. A file with most of
            them was written by it: there, a value equal to the default counts as not given.

    Returns:
        The values, and whether that version wrote the file.

    Raises:
        OptionError: if it cannot be read or understood.
    """
    try:
        root = yaml.compose(_text(path), Loader=yaml.SafeLoader)
    except (OSError, yaml.YAMLError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise OptionError(f"cannot read the options in {path}: {reason}.") from error
    if root is None or root.tag == _NULL:  # an empty file
        return {}, False
    if not isinstance(root, yaml.MappingNode):
        raise OptionError(f"cannot read the options in {path}: write a line 'option: value' for each.")
    known = names_in(options)
    words: dict[str, Any] = {}
    for key, node in root.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else "?"
        weighted = name in known and known[name].declaration.weighted is not None
        if isinstance(node, yaml.MappingNode) and not weighted:
            raise OptionError(f"option {name!r} in {path} is a nested map: write every option on the top level.")
        if not node.tag.startswith(STANDARD_TAGS):
            raise OptionError(f"option {name!r} in {path} has the tag {node.tag}, which has no meaning: leave it out.")
        if name not in known:
            raise unknown(name, known, f" in {path}")
        if name in words:
            raise OptionError(f"option {name!r} stands twice in {path}: keep one.")
        words[name] = _words(node)
    complete = len(in_full & words.keys()) > len(in_full) / 2
    values: dict[str, Any] = {}
    for name, word in words.items():
        option = known[name]
        if name != option.name and is_null(word):
            continue  # another name, which was not used
        value = option.read(word, f"{name!r} in {path}")
        if complete and value == option.default:
            continue
        if option.name in values and not (complete and values[option.name] == value):
            raise OptionError(f"--{name} is another name of --{option.name}, and {path} gives both: keep one.")
        values[option.name] = value
    return values, complete


def _text(path: str) -> str:
    with open(path, "rb") as file:
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise OptionError(f"cannot read the options in {path}: it is larger than {LARGEST_FILE >> 10} KiB.")
    try:
        return decode(data, "it")
    except UserError as error:
        raise OptionError(f"cannot read the options in {path}: {error}") from error


class _Nested:
    """A list or map inside a list, which no option has; an alias may make it endless, so it is not read."""

    def __repr__(self) -> str:
        return "[...]"


def _words(node: yaml.Node) -> Any:
    # The text as written rather than YAML 1.1's reading of it, in which 1e-4 is a string, 010 is 8 and `no` is False.
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == _NULL else Quoted(node.value) if node.style else node.value
    if isinstance(node, yaml.MappingNode):  # of names to weights; any other is refused before
        return [f"{_weight_word(name)}={_weight_word(weight)}" for name, weight in node.value]
    return [_words(item) if isinstance(item, yaml.ScalarNode) else _Nested() for item in node.value]


def _weight_word(node: yaml.Node) -> str:
    return node.value if isinstance(node, yaml.ScalarNode) else "?"
