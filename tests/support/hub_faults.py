"""Faults of a Hub, on demand."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Fault:
    """A fault in requests whose "METHOD /path?query" contains a pattern.

    Attributes:
        pattern: pattern of the request.
        times: number of requests that fail.
        status: status of an error to answer with; None carries the request out.
        headers: headers of that error.
        share: probability that a request fails.
        cut: close the connection without an answer.
        seconds: delay of the answer.
    """

    pattern: re.Pattern[str]
    times: int = 1
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    share: float = 1.0
    cut: bool = False
    seconds: float = 0.0


class Faults:
    """The faults to come; each method adds one, and `heal` removes all."""

    def __init__(self, seed: int = 0) -> None:
        self._faults: list[Fault] = []
        self._random = random.Random(seed)

    def fail(
        self, pattern: str, status: int, times: int = 1, headers: Mapping[str, str] | None = None, share: float = 1.0
    ) -> None:
        """Answer with an error; a `share` below 1 lets some requests pass at random."""
        self._faults.append(Fault(re.compile(pattern), times, status, headers or {}, share))

    def cut(self, pattern: str, times: int = 1) -> None:
        """Close the connection without carrying the request out."""
        self._faults.append(Fault(re.compile(pattern), times, status=500, cut=True))

    def lose_reply(self, pattern: str, times: int = 1) -> None:
        """Carry the request out, and close the connection without an answer."""
        self._faults.append(Fault(re.compile(pattern), times, cut=True))

    def hang(self, pattern: str, seconds: float, times: int = 1) -> None:
        """Carry the request out, and delay the answer."""
        self._faults.append(Fault(re.compile(pattern), times, seconds=seconds))

    def heal(self) -> None:
        """Remove all faults."""
        self._faults.clear()

    def next(self, line: str) -> Fault | None:
        """The fault of a request, if any."""
        for fault in self._faults:
            if fault.pattern.search(line) and (fault.share == 1 or self._random.random() < fault.share):
                fault.times -= 1
                if fault.times == 0:
                    self._faults.remove(fault)
                return fault
        return None
