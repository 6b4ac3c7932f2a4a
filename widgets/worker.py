"""The one thread that does a lab's slow work, so that the kernel stays free for its user."""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

IDLE_SECONDS = 5.0  # without work, after which the thread ends; the next work starts another


class Worker:
    """Runs work by urgency: the latest live request, then requests in turn, then what waits for quiet, then the rest.

    A live request that has not begun when a newer one comes is never run: a drag asks faster than a decoder answers,
    and only its latest position is worth a picture.

    Args:
        failed: called with the exceptions of work that nobody waits for.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._changed = threading.Condition()
        self._live: tuple[Callable[[], Any], Callable[[], None]] | None = None
        self._requests: deque[tuple[Callable[[], Any], Future]] = deque()
        self._settle: tuple[float, Callable[[], Any]] | None = None
        self._background: deque[Iterator[Any]] = deque()
        self._thread: threading.Thread | None = None
        self._executing: int | None = None  # the thread that is running our work
        self._stopped = False
        atexit.register(self.stop)

    def live(self, work: Callable[[], Any], dropped: Callable[[], None], here: bool = False) -> None:
        """Run this before anything else; call `dropped` instead if a newer live request comes first.

        With `here`, for work of a few milliseconds, it runs at once in the calling thread unless the worker is busy:
        handing it over would cost as much again, as both threads want the interpreter.
        """
        if here and self._claim():
            self._do(work)
            return
        with self._changed:
            before, self._live = self._live, (work, dropped)
            self._settle = None
            self._start()
        if before is not None:
            before[1]()

    def request(self, work: Callable[[], Any]) -> Future:
        """Run this after earlier requests; the future holds its result or its exception."""
        future: Future = Future()
        with self._changed:
            if self._stopped:
                future.set_exception(RuntimeError("this lab was closed: make a new one."))
                return future
            self._requests.append((work, future))
            self._start()
        return future

    def post(self, work: Callable[[], Any], failed: Callable[[BaseException | None], None]) -> None:
        """Run this after earlier requests; `failed` gets the exception, or None if the worker is stopped before."""

        def tell(done: Future) -> None:
            if done.cancelled() or done.exception() is not None:
                failed(None if done.cancelled() else done.exception())

        self.request(work).add_done_callback(tell)

    def settle(self, work: Callable[[], Any], seconds: float) -> None:
        """Run this after `seconds` without a live request, instead of what was to run then."""
        with self._changed:
            self._settle = (time.monotonic() + seconds, work)
            self._start()

    def background(self, steps: Iterator[Any], soon: bool = False) -> None:
        """Run these steps when there is nothing else, one at a time; with `soon`, before those that wait already."""
        with self._changed:
            if soon:
                self._background.appendleft(steps)
            else:
                self._background.append(steps)
            self._start()

    def live_waits(self) -> bool:
        """Whether a live request is waiting, or the worker has been stopped."""
        return self._live is not None or self._stopped

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do.

        Returns:
            Whether that happened within `timeout` seconds.
        """
        with self._changed:
            return self._changed.wait_for(self._idle, timeout)

    def stop(self) -> None:
        """End the thread after its present work; nothing is accepted any more."""
        with self._changed:
            self._stopped = True
            self._live = self._settle = None
            self._background.clear()
            waiting, self._requests = list(self._requests), deque()
            thread = self._thread
            self._changed.notify_all()
        for _, future in waiting:
            future.cancel()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)
        atexit.unregister(self.stop)

    @property
    def stopped(self) -> bool:
        """Whether nothing is accepted any more."""
        return self._stopped

    @property
    def is_current_thread(self) -> bool:
        """Whether the calling thread is running the worker's work, and so must not wait for it."""
        return self._executing == threading.get_ident()

    def _idle(self) -> bool:
        nothing = self._live is None and not self._requests and self._settle is None and not self._background
        return self._stopped or (nothing and self._executing is None)

    def _start(self) -> None:
        if self._stopped:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="latent-lab", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                self._do(work)
            except (
                BaseException
            ) as error:  # of telling an error, or an observer's SystemExit: others wait for this thread
                own = threading.current_thread()
                threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, own)))

    def _claim(self) -> bool:
        with self._changed:
            if self._executing is not None or self._live is not None or self._stopped:
                return False
            self._executing = threading.get_ident()
            self._settle = None
            return True

    def _do(self, work: Callable[[], Any]) -> None:
        try:
            try:
                work()
            except Exception as error:
                self._failed(error)
        finally:  # even if the kernel is interrupted
            with self._changed:
                self._executing = None
                self._changed.notify_all()

    def _next(self) -> Callable[[], Any] | None:
        idle_since = time.monotonic()
        with self._changed:
            while True:
                if self._executing is not None:
                    self._changed.wait()
                    continue
                now = time.monotonic()
                work = self._choose(now)
                if work is not None:
                    self._executing = threading.get_ident()
                    return work
                if self._stopped or (self._settle is None and now - idle_since >= IDLE_SECONDS):
                    self._thread = None
                    return None
                until = self._settle[0] if self._settle is not None else idle_since + IDLE_SECONDS
                self._changed.wait(max(0.0, until - now))

    def _choose(self, now: float) -> Callable[[], Any] | None:
        if self._live is not None:
            (work, _), self._live = self._live, None
            return work
        if self._requests:
            work, future = self._requests.popleft()
            return lambda: _fulfil(work, future)
        if self._settle is not None and now >= self._settle[0]:
            (_, work), self._settle = self._settle, None
            return work
        if self._background and self._settle is None:
            return self._one_step
        return None

    def _one_step(self) -> None:
        steps = self._background[0]
        try:
            next(steps)
        except BaseException as error:
            with self._changed:
                if steps in self._background:
                    self._background.remove(steps)
            if not isinstance(error, StopIteration):
                raise


def _fulfil(work: Callable[[], Any], future: Future) -> None:
    try:
        result = work()
    except BaseException as error:  # a SystemExit too: somebody waits
        future.set_exception(error)
    else:
        future.set_result(result)
