"""Text of users in Markdown: shown literally, never read as markup."""

from __future__ import annotations

import re
from typing import Any

MARKUP = re.compile(r"([\\`*_{}\[\]()<>#|~$&!])")


def escaped(value: Any) -> str:
    """Put text on one line, with a backslash before every character that is special in Markdown or HTML."""
    return MARKUP.sub(r"\\\1", " ".join(str(value).split()))


def in_code(value: Any) -> str:
    """Format text as inline code, also valid in a table."""
    words = " ".join(str(value).split())
    ticks = "`" * (max((len(run) for run in re.findall("`+", words)), default=0) + 1)
    padding = " " if "`" in words else ""
    return f"{ticks}{padding}{words}{padding}{ticks}".replace("|", "\\|")


def fenced(code: str, language: str) -> str:
    """Format a block of code, whose fence is longer than any in the code."""
    ticks = "`" * max(3, max((len(run) for run in re.findall("`+", code)), default=0) + 1)
    return f"{ticks}{language}\n{code}\n{ticks}"
