"""What goes wrong with a Hub, on demand."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Fault:
    """What happens to a request whose "METHOD /path?query" holds a pattern.

    Attributes:
        pattern: of the request.
        times: how many requests it happens to.
        status: of the refusal that is answered instead; None carries the request out.
        headers: of that refusal.
        share: probability that it happens to a request.
        cut: the connection ends without an answer.
        seconds: the answer waits so long.
    """

    pattern: re.Pattern[str]
    times: int = 1
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    share: float = 1.0
    cut: bool = False
    seconds: float = 0.0


class Faults:
    """The faults that are to happen; each method adds one, `heal` takes all away."""

    def __init__(self, seed: int = 0) -> None:
        self._faults: list[Fault] = []
        self._random = random.Random(seed)

    def fail(
        self, pattern: str, status: int, times: int = 1, headers: Mapping[str, str] | None = None, share: float = 1.0
    ) -> None:
        """Answer with that status; `share` below 1 spares some requests, by chance."""
        self._faults.append(Fault(re.compile(pattern), times, status, headers or {}, share))

    def cut(self, pattern: str, times: int = 1) -> None:
        """End the connection instead of carrying the request out."""
        self._faults.append(Fault(re.compile(pattern), times, status=500, cut=True))

    def lose_reply(self, pattern: str, times: int = 1) -> None:
        """Carry the request out and end the connection without an answer."""
        self._faults.append(Fault(re.compile(pattern), times, cut=True))

    def hang(self, pattern: str, seconds: float, times: int = 1) -> None:
        """Carry the request out, and answer so much later."""
        self._faults.append(Fault(re.compile(pattern), times, seconds=seconds))

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self._faults.clear()

    def next(self, line: str) -> Fault | None:
        """The fault that happens to this request."""
        for fault in self._faults:
            if fault.pattern.search(line) and (fault.share == 1 or self._random.random() < fault.share):
                fault.times -= 1
                if fault.times == 0:
                    self._faults.remove(fault)
                return fault
        return None
