"""Text of users in Markdown: shown literally, never read as markup."""

from __future__ import annotations

import json
import re
from typing import Any

import jinja2
from markupsafe import Markup

MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")  # parentheses mean nothing without brackets
# What renderers turn into a link by themselves, escaped or not: addresses, domains, e-mail addresses, names.
LINKABLE = re.compile(r"//|@|\.[^\W\d_]|\bwww\b", re.IGNORECASE)
# Control characters, halves of surrogate pairs (of file names that are not UTF-8), and what reverses the text after it.
UNPRINTABLE = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufeff]")


class Markdown(Markup):
    """Text in Markdown. What is formatted into it or added to it is escaped, unless it is Markdown itself."""

    @classmethod
    def escape(cls, s: Any, /) -> Markdown:
        """Show text literally; return Markdown as it is."""
        return s if isinstance(s, cls) else cls(escaped(s))


def environment(loader: jinja2.BaseLoader) -> jinja2.Environment:
    """Templates of Markdown, in which every value is escaped that is not `Markdown` already.

    Filters: `code` for inline code, `python` for a string literal within a block of Python, `verbatim` for text that is
    this package's own.
    """
    made = jinja2.Environment(
        loader=loader,
        finalize=Markdown.escape,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"code": in_code, "python": python_literal, "verbatim": Markdown}
    return made


def escaped(value: Any) -> str:
    """Put text on one line, with a backslash before every character that is special in Markdown or HTML.

    Where renderers would make a link of it, it becomes inline code.
    """
    words = one_line(value)
    return in_code(words) if LINKABLE.search(words) else MARKUP.sub(r"\\\1", words)


def in_code(value: Any) -> Markdown:
    """Format text as inline code, also valid in a table."""
    words = _without_marks(one_line(value)).replace("\\|", "\\ |") or " "  # no table has a place for `\|`
    ticks = "`" * (max((len(run) for run in re.findall("`+", words)), default=0) + 1)
    padding = " " if "`" in words else ""
    return Markdown(f"{ticks}{padding}{words}{padding}{ticks}".replace("|", "\\|"))


def fenced(code: str, language: str) -> Markdown:
    """Format a block of code, whose fence is longer than any in the code."""
    code = _without_marks(UNPRINTABLE.sub("\ufffd", code))
    ticks = "`" * max(3, max((len(run) for run in re.findall("`+", code)), default=0) + 1)
    return Markdown(f"{ticks}{language}\n{code}\n{ticks}")


def python_literal(value: Any) -> Markdown:
    """Format text as a string literal on one line."""
    return Markdown(json.dumps(one_line(value), ensure_ascii=False))


def one_line(value: Any) -> str:
    """Text with every run of white space as one space, and without characters that cannot be shown."""
    return UNPRINTABLE.sub("\ufffd", " ".join(str(value).split()))


def _without_marks(code: str) -> str:
    """Code without the beginning of an HTML comment, which could be taken for a mark of the generated part."""
    return code.replace("<!--", "<! --")
