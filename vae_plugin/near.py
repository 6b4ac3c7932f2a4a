"""The names that were probably meant by one that nobody knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher

from .wording import either

MOST = 5  # names in an answer
SHORTEST_STEM = 3  # letters by which a word begins another, as val does validation
ALIKE = 0.7  # ratio of `SequenceMatcher` from which two names are one, misspelt
ALMOST = 0.9  # from which they are whatever words begin them: discriminatxor is no abbreviation of disc_scale


def hint(name: str, known: Iterable[str], otherwise: str) -> str:
    """The end of an error about an unknown name: what was probably meant, or else the given sentence."""
    near = [repr(candidate) for candidate in nearest(name, known)]
    if not near:
        return otherwise
    return f"did you mean {either(near)}?"


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known names nearest to one that is unknown, the shortest first.

    A name that begins with the given one, or holds all its words, comes before one that only has similar letters:
    `resume` means `resume_from_checkpoint`, however alike `circles_hue` looks.
    """
    typed, candidates = _bare(name), list(known)
    misspelt, ratio = _most_alike(typed, [_bare(candidate) for candidate in candidates])
    tests: tuple[Callable[[str], bool], ...] = (
        lambda other: other == typed,
        lambda other: len(typed) > 1 and "".join(word[:1] for word in other.split("_")) == typed,  # lr: learning_rate
        lambda other: len(typed) > 1 and (other.startswith(typed) or set(_words(typed)) <= set(_words(other))),
        lambda other: other == misspelt and ratio >= ALMOST,
        lambda other: all(any(_same_stem(word, its) for its in _words(other)) for word in _words(typed)),
        lambda other: other == misspelt and ratio >= ALIKE,
        lambda other: len(other) > SHORTEST_STEM and typed.startswith(other),
    )
    found = [[c for c in candidates if test(_bare(c))] for test in tests if _words(typed)]
    return sorted(next(filter(None, found), []), key=len)[:MOST]


def _most_alike(typed: str, names: Sequence[str]) -> tuple[str | None, float]:
    """The name with the most similar letters, and their ratio."""
    alike = {name: SequenceMatcher(None, typed, name).ratio() for name in names}
    best = max(alike, key=lambda name: alike[name], default=None)
    return best, alike.get(best or "", 0.0)


def _bare(name: str) -> str:
    return name.strip("-_").lower().replace("-", "_")


def _words(name: str) -> list[str]:
    return [word for word in name.split("_") if word]


def _same_stem(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    return one == other or (len(shorter) >= SHORTEST_STEM and longer.startswith(shorter))
