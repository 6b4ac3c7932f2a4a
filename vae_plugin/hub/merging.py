"""A generated card and what people have written around it."""

from __future__ import annotations

import re
from typing import Any

import yaml
from huggingface_hub.utils import yaml_dump

from ..errors import UserError

BEGIN, END = "<!-- generated:begin", "<!-- generated:end -->"
FRONT = re.compile(r"^\s*---[ \t]*\r?\n((?:.*?\r?\n)?)---[ \t]*(?:\r?\n|$)", re.DOTALL)
# What follows from the run; everything else in the metadata is the word of whoever wrote it last.
GENERATED_KEYS = (
    "model-index", "library_name", "thumbnail", "base_model", "base_model_relation", "datasets", "metrics", "inference"
)  # fmt: skip
# As a reader would have them; always the same, so that what has not changed is not pushed again.
ORDER = (
    "license", "license_name", "license_link", "library_name", "pipeline_tag", "tags", "base_model",
    "base_model_relation", "datasets", "metrics", "thumbnail", "inference", "model-index",
)  # fmt: skip
LICENSE_KEYS = ("license", "license_name", "license_link")


def merged(generated: str, old: str, *, license_given: bool = False) -> str:
    """The generated card with the words and metadata of an old one.

    Text outside of the marked part stays where it was; a card without marks is somebody's own and stays above the
    generated part. Of the metadata the old card's values stay but for those that follow from the run; tags add up.

    Args:
        generated: the new card; what is written around its marked part is used where the old one has no such words.
        old: the card that there is; "" for none.
        license_given: whether the new card's licence was asked for, and replaces that of the old one.

    Raises:
        UserError: if the metadata of the old card cannot be read.
    """
    new_data, new_body = split(generated)
    old_data, old_body = split(old)
    replaced = (*GENERATED_KEYS, *(LICENSE_KEYS if license_given else ()))
    if "license" in old_data:  # a name and a link belong to the licence that they were written with
        new_data = {k: v for k, v in new_data.items() if license_given or k not in LICENSE_KEYS}
    data = {**new_data, **{k: v for k, v in old_data.items() if k not in replaced and v is not None}}
    data["tags"] = list(dict.fromkeys([*(old_data.get("tags") or []), *(new_data.get("tags") or [])]))
    words = own_words(old_body)
    before, after = words if any(map(str.strip, words)) else own_words(new_body)
    body = new_body[new_body.find(BEGIN) : new_body.find(END) + len(END)]
    data = dict(sorted(data.items(), key=lambda item: ORDER.index(item[0]) if item[0] in ORDER else len(ORDER)))
    return f"---\n{yaml_dump(data, sort_keys=False).strip()}\n---\n{before}{body}{after or chr(10)}"


def own_words(body: str) -> tuple[str, str]:
    """What stands before and after the generated part of a card's body."""
    begin, end = body.find(BEGIN), body.find(END)
    if 0 <= begin < end:
        return body[:begin], body[end + len(END) :].rstrip() + "\n"
    words = body.strip()
    return (f"{words}\n\n" if words else ""), ""


def split(card: str) -> tuple[dict[str, Any], str]:
    """Metadata and body of a card.

    Raises:
        UserError: if the metadata cannot be read.
    """
    match = FRONT.match(card)
    if match is None:
        return {}, card
    try:
        data = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the metadata of the card that there is cannot be read ({reason}): mend it, or give --overwrite_card."
        ) from error
    return (data if isinstance(data, dict) else {}), card[match.end() :]
