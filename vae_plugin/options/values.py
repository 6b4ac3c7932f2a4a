"""The rules that hold for every value of a type, whatever the option."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from typing import Any

from .. import wording
from .declare import Declaration, OptionError

# Counts fit in 32 bits wherever libraries put them; models compute in float32, where anything larger is infinite.
LARGEST: dict[type, float] = {int: 2**31 - 1, float: 3.4e38}
LARGEST_SEED = 2**32 - 1  # that NumPy takes, whose generator is seeded too
LONGEST = 80  # characters of a value in an error
LONGEST_TEXT = 4096  # characters, as long as a path may be
# Python also reads 1_0 as 10, and the digits of every script.
PLAIN = {
    int: re.compile(r"[+-]?[0-9]+"),
    float: re.compile(r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|\.?inf|infinity)", re.IGNORECASE),
}


def shown(value: Any) -> str:
    """A value for an error."""
    return wording.shown(value, LONGEST)


def as_typed(value: Any) -> str:
    """A value as it is typed: the items of a list with spaces between them, whole ones without a point."""
    if not isinstance(value, (list, tuple)):
        return str(value)
    whole = (isinstance(item, float) and item.is_integer() and abs(item) < 1e15 for item in value)
    return (
        " ".join(str(int(item) if is_whole else item) for item, is_whole in zip(value, whole, strict=True)) or "empty"
    )


def plain_number(text: str, kind: type[int] | type[float]) -> int | float:
    """The number that a word of the command line or of a file is: 10, -.5, 1e-4, inf or YAML's .inf, of a float.

    Raises:
        ValueError: if it is none, or an integer of thousands of digits.
    """
    word = text.strip()
    if not PLAIN[kind].fullmatch(word):
        raise ValueError(f"{shown(text)} is no plain number.")
    return kind(word.lower().replace(".inf", "inf"))


def check_numbers(values: Sequence[float], rules: Declaration, name: str, many: bool) -> None:
    """Refuse numbers that are not finite, out of the bounds of their option, or too large for any computation.

    Args:
        values: the numbers.
        rules: of the option.
        name: of the option.
        many: whether the option is a list of them.

    Raises:
        OptionError: for the first rule that does not hold.
    """
    given = wording.cut(" ".join(map(shown, values)), LONGEST)
    each = "each number" if many else "it"
    for value in values:
        for words, holds in _rules(value, rules):
            if not holds:
                raise OptionError(f"--{name} is {given}: {each} must be {words}.")


def _rules(value: float, rules: Declaration) -> list[tuple[str, bool]]:
    """What a number must be, in words, and whether it is."""
    largest = LARGEST[type(value)]
    at_least, at_most = rules.at_least, rules.at_most
    if at_least is None and rules.above is None:
        at_least = -largest
    if at_most is None and rules.below is None:
        at_most = largest
    return [
        ("a finite number", math.isfinite(value) if isinstance(value, float) else True),
        (f"at least {at_least}", at_least is None or value >= at_least),
        (f"above {rules.above}", rules.above is None or value > rules.above),
        (f"below {rules.below}", rules.below is None or value < rules.below),
        (f"at most {at_most}", at_most is None or value <= at_most),
    ]


def check_text(text: str, rules: Declaration, name: str) -> str:
    """A string, with the home folder for a leading ~ if it is a path.

    Raises:
        OptionError: for a path that is empty or begins with a home folder that does not exist, and for text that no
            file name and no request can hold.
    """
    if len(text) > LONGEST_TEXT:
        raise OptionError(f"--{name} is {shown(text)}: it must have at most {LONGEST_TEXT:,} characters.")
    if "\0" in text:
        raise OptionError(f"--{name} is {shown(text)}: it must not contain a zero byte.")
    if not rules.path:
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise OptionError(f"--{name} is {shown(text)}: it must be text in UTF-8.")
        return text
    if not text.strip():
        raise OptionError(f"--{name} is {text!r}: give a path, or leave it out.")
    expanded = os.path.expanduser(text)
    if text.startswith("~") and expanded == text:
        home = text.split("/")[0]
        raise OptionError(f"--{name} is {shown(text)}: there is no home folder {home}; write ./{home} for that name.")
    return expanded
