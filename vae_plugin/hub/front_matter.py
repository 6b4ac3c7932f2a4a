"""The metadata of a card: YAML between two lines of `---`, in which people's own lines stay as they wrote them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from huggingface_hub.utils import yaml_dump

from ..errors import UserError
from ..texts import parse_yaml

FRONT = re.compile(r"^\ufeff?\s*---[ \t]*(?:\r\n|\n|\r)((?:.*?(?:\r\n|\n|\r))??)---[ \t]*(?:\r\n|\n|\r|$)", re.DOTALL)
UNCLOSED = re.compile(r"^\ufeff?\s*---[ \t]*(?:\r\n|\n|\r)[\w-]+:(?:\s|$)")
NAME = "the metadata of the existing card"
ADVICE = "Correct them, or give `card` or `push` --overwrite_card."


@dataclass
class FrontMatter:
    """Metadata of a card.

    Attributes:
        data: their values.
        text: as they were written.
    """

    data: dict[str, Any]
    text: str = ""


def split(card: str) -> tuple[dict[str, Any], str]:
    """Split a card into the values of its metadata and its body; see `read`."""
    front, body = read(card)
    return front.data, body


def read(card: str) -> tuple[FrontMatter, str]:
    """Split a card into metadata and body.

    Raises:
        UserError: if the metadata cannot be parsed, or an entry stands there twice.
    """
    match = FRONT.match(card)
    if match is None:
        if UNCLOSED.match(card):
            raise UserError(f"{NAME} have no closing line of '---': add it, or give `card` or `push` --overwrite_card.")
        return FrontMatter({}), card
    try:
        data = parse_yaml(match[1], NAME)
    except UserError as error:
        raise UserError(f"{error} {ADVICE}") from error
    if data is None:
        data = {}
    if not isinstance(data, dict):  # text between two rules
        return FrontMatter({}), card
    keys = [key.value for key in _keys(match[1])]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise UserError(f"{NAME} name {twice!r} twice: keep one of them, or give `card` or `push` --overwrite_card.")
    return FrontMatter(data, match[1]), card[match.end() :]


def updated(old: FrontMatter, values: Mapping[str, Any], removed: Collection[str]) -> str:
    """The YAML of metadata after a change: lines of entries that stay, and comments, are those that were written.

    YAML reads `1.10` as 1.1 and `no` as false: only the lines themselves say what somebody meant.

    Args:
        old: metadata as they are.
        values: entries to add or to replace.
        removed: names of entries to leave out.
    """
    data = {**{name: value for name, value in old.data.items() if name not in removed}, **values}
    comments, lines, tail = _entries(old)
    text = ""
    for name in dict.fromkeys([*lines, *data]):
        text += comments.get(name, "")
        if name in data:
            unchanged = name in lines and (name not in values or values[name] == old.data[name])
            text += lines[name] if unchanged else yaml_dump({name: data[name]}, sort_keys=False)
    text += tail
    try:
        same = _in_order(parse_yaml(text, NAME)) == _in_order(data)
    except UserError:
        same = False
    if same:
        return text
    # Aliases between entries and maps in braces cannot be taken apart: only the comments stay as they are.
    kept = [line for part in (*comments.values(), tail) for line in part.splitlines(True) if line.startswith("#")]
    return "".join(kept) + yaml_dump(data, sort_keys=False)


def _keys(text: str) -> list[yaml.Node]:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return [key for key, _ in root.value] if isinstance(root, yaml.MappingNode) else []


def _in_order(data: dict[Any, Any]) -> str:
    """The same text for the same metadata; unlike the values themselves, it has aliases for what is endless."""
    # Maps inside are sorted, too; the sort here is for keys that YAML cannot compare.
    return yaml_dump(dict(sorted(data.items(), key=lambda item: str(item[0]))), sort_keys=True)


def _entries(front: FrontMatter) -> tuple[dict[Any, str], dict[Any, str], str]:
    """The comments above each entry, the lines of each entry, and the comments below the last."""
    text, keys = front.text, _keys(front.text)
    # A key may be read as something else than its text: `on` as true.
    names = list(front.data) if len(front.data) == len(keys) else [key.value for key in keys]
    starts = [key.start_mark.index for key in keys]
    comments: dict[Any, str] = {}
    lines: dict[Any, str] = {}
    above = text[: starts[0]] if starts else text
    for name, start, end in zip(names, starts, [*starts, len(text)][1:], strict=True):
        own = text[start:end].splitlines(keepends=True)
        below: list[str] = []
        while own and (own[-1].startswith("#") or not own[-1].strip()):
            below.insert(0, own.pop())
        comments[name], lines[name] = above, "".join(own)
        above = "".join(below)
    return comments, lines, above
