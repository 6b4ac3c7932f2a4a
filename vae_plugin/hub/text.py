"""Words of users and names of files in Markdown: shown as they are, never read as markup."""

from __future__ import annotations

import re
from typing import Any

MARKUP = re.compile(r"([\\`*_{}\[\]()<>#|~$&!])")


def escaped(value: Any) -> str:
    """The words on one line, with every character that Markdown or HTML could read as its own behind a backslash."""
    return MARKUP.sub(r"\\\1", " ".join(str(value).split()))


def in_code(value: Any) -> str:
    """The words as code on one line, in a table too."""
    words = " ".join(str(value).split())
    ticks = "`" * (max((len(run) for run in re.findall("`+", words)), default=0) + 1)
    padding = " " if "`" in words else ""
    return f"{ticks}{padding}{words}{padding}{ticks}".replace("|", "\\|")


def fenced(code: str, language: str) -> str:
    """A block of code that ends where we end it."""
    ticks = "`" * max(3, max((len(run) for run in re.findall("`+", code)), default=0) + 1)
    return f"{ticks}{language}\n{code}\n{ticks}"
