"""Merging a generated card with an existing one, whose hand-written parts stay."""

from __future__ import annotations

import re
from typing import Any

from huggingface_hub.utils import yaml_dump

from ..errors import UserError
from ..texts import parse_yaml

BEGIN, END = "<!-- generated:begin", "<!-- generated:end -->"
FRONT = re.compile(r"^\ufeff?\s*---[ \t]*\r?\n((?:.*?\r?\n)?)---[ \t]*(?:\r?\n|$)", re.DOTALL)
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


def merged(generated: str, old: str, *, license_given: bool = False) -> str:
    """Merge a generated card with the text and metadata of an old one.

    Text outside the marked part stays where it was; a card without marks is hand-written, and stays above the
    generated part. Metadata of the old card stay, except for those that follow from the run; tags are united.

    Args:
        generated: the new card; text around its marked part is used if the old card has none.
        old: the existing card, "" for none.
        license_given: whether the licence of the new card was given explicitly, and replaces that of the old one.

    Raises:
        UserError: if the metadata of the old card cannot be parsed.
    """
    new_data, new_body = split(generated)
    old_data, old_body = split(old)
    replaced = (*GENERATED_KEYS, *(LICENSE_KEYS if license_given else ()))
    if "license" in old_data:  # a name and a link belong to the licence beside them
        new_data = {k: v for k, v in new_data.items() if license_given or k not in LICENSE_KEYS}
    data = {**new_data, **{k: v for k, v in old_data.items() if k not in replaced and v is not None}}
    data["tags"] = list(dict.fromkeys([*(old_data.get("tags") or []), *(new_data.get("tags") or [])]))
    words = own_words(old_body)
    before, after = words if any(map(str.strip, words)) else own_words(new_body)
    body = new_body[new_body.find(BEGIN) : new_body.find(END) + len(END)]
    data = dict(sorted(data.items(), key=lambda item: ORDER.index(item[0]) if item[0] in ORDER else len(ORDER)))
    return f"---\n{yaml_dump(data, sort_keys=False).strip()}\n---\n{before}{body}{after or chr(10)}"


def own_words(body: str) -> tuple[str, str]:
    """The text before and after the generated part of a card's body."""
    begin, end = body.find(BEGIN), body.find(END)
    if 0 <= begin < end:
        return body[:begin], body[end + len(END) :].rstrip() + "\n"
    words = body.strip()
    return (f"{words}\n\n" if words else ""), ""


def split(card: str) -> tuple[dict[str, Any], str]:
    """Split a card into metadata and body.

    Raises:
        UserError: if the metadata cannot be parsed.
    """
    match = FRONT.match(card)
    if match is None:
        return {}, card
    try:
        data = parse_yaml(match[1], "the metadata of the existing card")
    except UserError as error:
        raise UserError(f"{error} Correct them, or give --overwrite_card.") from error
    return (data if isinstance(data, dict) else {}), card[match.end() :]
