"""Merging a generated card with an existing one, whose hand-written parts stay."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

from ..errors import UserError
from .front_matter import ADVICE, NAME, FrontMatter, read, split, updated

BEGIN, END = "<!-- generated:begin", "<!-- generated:end -->"
MARK = re.compile(rf"{BEGIN}(?:[^\r\n]*?-->)?|{END}")
NAMED = re.compile(rf"{BEGIN}[^\r\n]*; metadata: ([\w, -]*)\) -->")
LINE_END = re.compile(r"\r\n|\n|\r")
# Metadata that follow from the run; all others belong to whoever edited them last.
GENERATED_KEYS = (
    "model-index", "library_name", "thumbnail", "base_model", "base_model_relation", "datasets", "metrics", "inference"
)  # fmt: skip
# In reading order. A fixed order, so that an unchanged card is not pushed again.
ORDER = (
    "license", "license_name", "license_link", "library_name", "pipeline_tag", "tags", "base_model",
    "base_model_relation", "datasets", "metrics", "thumbnail", "inference", "model-index",
)  # fmt: skip
LICENSE_KEYS = ("license", "license_name", "license_link")


def merged(
    generated: str,
    old: str,
    *,
    license_given: bool = False,
    keys: Sequence[str] = GENERATED_KEYS,
    on_top: bool = False,
) -> str:
    """Merge a generated card with the text and metadata of an old one.

    Text outside the marked part stays where it was; a card without marks is hand-written, and stays above the
    generated part. Metadata of the old card stay, except for those that follow from the run: these are replaced, or
    removed where the old card had them from a run. Tags are united. The line ends are those of the old card.

    Args:
        generated: the new card; text around its marked part is used if the old card has none.
        old: the existing card, "" for none.
        license_given: whether the licence of the new card was given explicitly, and replaces that of the old one.
        keys: metadata that follow from the run.
        on_top: put the generated part above the text of a card without marks.

    Raises:
        UserError: if the metadata of the old card cannot be parsed.
    """
    new_data, new_body = split(generated)
    line_end = first[0] if (first := LINE_END.search(old)) else "\n"
    front, old_body = read(old)
    words = own_words(old_body)
    if on_top and not MARK.search(old_body):
        words = ("", f"{line_end}{line_end}{words[0].rstrip()}{line_end}" if words[0] else "")
    before, after = words if any(map(str.strip, words)) else own_words(new_body)
    body = new_body[new_body.find(BEGIN) : new_body.rfind(END) + len(END)]
    follow = {key for key in keys if key in new_data or key in _generated(old_body, keys)}
    data = _metadata(new_data, front, {*follow, *(LICENSE_KEYS if license_given else ())}, license_given).rstrip()
    head, body = (LINE_END.sub(lambda _: line_end, text) for text in (f"---\n{data}\n---\n", body))
    return head + before + body + (after or line_end)


def check_old(card: str) -> None:
    """Refuse a card that `merged` could not keep.

    Raises:
        UserError: if its metadata cannot be parsed.
    """
    _tags(read(card)[0])


def own_words(body: str) -> tuple[str, str]:
    """The text before and after the generated part of a card's body.

    The generated part is a mark of its beginning with that of its end next after it. Where one of them was deleted,
    nobody knows what was generated: all text is somebody's, and the new part takes the place of the mark that is left.
    """
    marks = list(MARK.finditer(body))
    begins = [mark[0] != END for mark in marks]
    for i, mark in enumerate(marks[:-1]):
        if begins[i] and not begins[i + 1]:
            return body[: mark.start()], body[marks[i + 1].end() :]
    if marks:
        left = marks[begins.index(True) if True in begins else 0]
        return body[: left.start()], body[left.end() :]
    words = body.strip("\r\n")
    line_end = first[0] if (first := LINE_END.search(body)) else "\n"
    return (f"{words}{line_end}{line_end}" if words.strip() else ""), ""


def lacks_a_mark(card: str) -> bool:
    """Whether one of the two marks of the generated part was deleted."""
    begins = [mark[0] != END for mark in MARK.finditer(split(card)[1])]
    return bool(begins) and (True, False) not in pairwise(begins)


def _generated(body: str, keys: Sequence[str]) -> Collection[str]:
    """The metadata that a card has from a run, as its first mark names them; that of 0.1 names none, and means all."""
    if not MARK.search(body):
        return ()
    named = NAMED.search(body)
    return keys if named is None else named[1].split(", ")


def _metadata(new: dict[str, Any], old: FrontMatter, replaced: Collection[str], license_given: bool) -> str:
    if "license" in old.data:  # a name and a link belong to the licence beside them
        new = {k: v for k, v in new.items() if license_given or k not in LICENSE_KEYS}
    kept = {name for name, value in old.data.items() if name not in replaced and (value is not None or name not in new)}
    values = {name: value for name, value in new.items() if name not in kept}
    values["tags"] = list(dict.fromkeys([*_tags(old), *(new.get("tags") or [])]))
    values = dict(sorted(values.items(), key=lambda item: ORDER.index(item[0]) if item[0] in ORDER else len(ORDER)))
    return updated(old, values, removed=old.data.keys() - kept)


def _tags(old: FrontMatter) -> list[Any]:
    tags = old.data.get("tags")
    tags = [] if tags is None else tags if isinstance(tags, list) else [tags]
    if any(isinstance(tag, (dict, list, set)) for tag in tags):
        raise UserError(f"{NAME} have tags that are no words: write a list of words. {ADVICE}")
    return tags
