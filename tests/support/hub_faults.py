"""Faults of a Hub, on demand."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass
class Fault:
    """A fault in requests whose "METHOD /path?query" contains a pattern.

    Attributes:
        pattern: pattern of the request.
        times: number of requests that fail.
        status: status of an error to answer with; None carries the request out.
        reason: what that error says.
        headers: headers of that error.
        after: whether the request is carried out before the error.
        share: probability that a request fails.
        cut: close the connection without an answer.
        seconds: delay of the answer.
    """

    pattern: re.Pattern[str]
    times: int = 1
    status: int | None = None
    reason: str = "failure on demand"
    headers: Mapping[str, str] = field(default_factory=dict)
    after: bool = False
    share: float = 1.0
    cut: bool = False
    seconds: float = 0.0


EVER = 10**9
STORM = (
    Fault(re.compile(""), EVER, status=503),
    Fault(re.compile(""), EVER, status=500, cut=True),
    Fault(re.compile(""), EVER, cut=True),
    Fault(re.compile(""), EVER, status=502, after=True),
    Fault(re.compile(""), EVER, status=504, after=True),
)


class Faults:
    """The faults to come; each method adds one, and `heal` removes all."""

    def __init__(self, seed: int = 0) -> None:
        self._faults: list[Fault] = []
        self._random = random.Random(seed)

    def fail(
        self,
        pattern: str,
        status: int,
        times: int = 1,
        headers: Mapping[str, str] | None = None,
        share: float = 1.0,
        reason: str = "failure on demand",
        after: bool = False,
    ) -> None:
        """Answer with an error; a `share` below 1 lets some requests pass at random."""
        self._faults.append(Fault(re.compile(pattern), times, status, reason, headers or {}, after, share))

    def storm(self, share: float, pattern: str = "") -> None:
        """Let a share of all requests fail in every way: refused, cut, and both after they were carried out."""
        for kind in STORM:
            # Each kind sees what the ones before it have let pass.
            rest = share / len(STORM) / (1 - share * STORM.index(kind) / len(STORM))
            self._faults.append(replace(kind, pattern=re.compile(pattern), share=rest))

    def cut(self, pattern: str, times: int = 1) -> None:
        """Close the connection without carrying the request out."""
        self._faults.append(Fault(re.compile(pattern), times, status=500, cut=True))

    def lose_reply(self, pattern: str, times: int = 1) -> None:
        """Carry the request out, and close the connection without an answer."""
        self._faults.append(Fault(re.compile(pattern), times, cut=True))

    def hang(self, pattern: str, seconds: float, times: int = 1) -> None:
        """Carry the request out, and delay the answer."""
        self._faults.append(Fault(re.compile(pattern), times, seconds=seconds))

    @property
    def to_come(self) -> list[Fault]:
        """The faults that have not happened, or may happen again."""
        return self._faults

    def seed(self, seed: int) -> None:
        """Begin the random choices anew."""
        self._random = random.Random(seed)

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
