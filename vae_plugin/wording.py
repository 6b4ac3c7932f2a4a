"""Values and choices in the sentences of errors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

LONGEST = 40  # characters of a value
NO_VIDEOS = "this package works with images, not with videos"


def shown(value: Any, longest: int = LONGEST) -> str:
    """A value for an error: its repr on one line, cut to a readable length."""
    try:
        return cut(" ".join(repr(value).split()), longest)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return "a number of thousands of digits"
    except RecursionError:
        return f"a {type(value).__name__} of many levels"


def number(value: Any) -> str:
    """A number in a sentence: whole ones without a point or an exponent, others with six digits."""
    value = value.item() if hasattr(value, "item") else value  # of numpy
    return str(int(value)) if abs(value) < 1e15 and int(value) == value else f"{value:g}"


def cut(text: str, longest: int) -> str:
    """The text, or its beginning where it has more characters than that."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def either(options: Iterable[str]) -> str:
    """Choices in a sentence: "a, b or c"."""
    *first, last = options
    return f"{', '.join(first)} or {last}" if first else last
