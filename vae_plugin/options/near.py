"""A name that nobody knows, and the one that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from .declare import OptionError


def unknown(name: str, known: Iterable[str], where: str = "") -> OptionError:
    """The error for a name that is no option."""
    near = [f"did you mean {known!r}?" for known in difflib.get_close_matches(name, list(known), n=1)]
    return OptionError(f"unknown option {name!r}{where}: {(near or ['--help lists the options.'])[0]}")
