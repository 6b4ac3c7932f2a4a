"""How far a run has come, for whoever watches: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

from tqdm.auto import tqdm

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Progress of the steps of a run, on stderr.

    Args:
        total: optimiser steps of the run.
        done: steps that were done before.
        visible: whether to show anything; of several processes only the first does.
        unit: what is counted.
        seconds_between_lines: the shortest time between two lines where stderr is no terminal.
        tells_end: whether the last step has a line there in any case.
        clock: seconds.
    """

    def __init__(
        self,
        total: int,
        done: int = 0,
        *,
        visible: bool = True,
        unit: str = "step",
        seconds_between_lines: float = SECONDS_BETWEEN_LINES,
        tells_end: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.done = total, done
        self._lines = visible and not sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=done, unit=unit, disable=not visible or self._lines)
        self._unit, self._tells_end = unit, tells_end
        self._pause, self._clock = seconds_between_lines, clock
        self._last_line = clock()

    def step(self, shown: Mapping[str, str], count: int = 1) -> None:
        """Count a step, or several.

        Args:
            shown: values beside it, by name.
            count: how many.
        """
        self.done += count
        self._bar.update(count)
        self._bar.set_postfix(shown)
        now = self._clock()
        at_end = self._tells_end and self.done == self.total
        if self._lines and (now - self._last_line >= self._pause or at_end):
            self._last_line = now
            values = "".join(f", {name} {value}" for name, value in shown.items())
            print(f"{self._unit} {self.done:,} of {self.total:,}{values}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


class Stopwatch:
    """Seconds since it was made, without those inside `with` blocks.

    Args:
        seconds: to begin with.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._started = time.perf_counter() - seconds
        self._paused = 0.0
        self._pause_began = 0.0

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._started - self._paused

    def __enter__(self) -> Stopwatch:
        """Stop for the time of a block."""
        self._pause_began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._paused += time.perf_counter() - self._pause_began
