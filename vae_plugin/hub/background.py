"""Pushes in the background: one at a time, and a waiting one is replaced by a newer one."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import PushError, UserError
from .client import without_tokens


@dataclass(frozen=True)
class Snapshot:
    """A folder to push, removed afterwards.

    Attributes:
        folder: path of the folder, which nothing else uses.
        name: name of its content in messages, such as "step 500".
        send: pushes the folder.
    """

    folder: Path
    name: str
    send: Callable[[Path], object]


class BackgroundPush:
    """Pushes snapshots from a thread.

    A failed push is reported and not repeated, since the next snapshot has newer weights.

    Args:
        tell: shows a line to the user.
    """

    def __init__(self, tell: Callable[[str], None] = print) -> None:
        self._tell = tell
        self._next: Snapshot | None = None
        self._busy = False
        self._changed = threading.Condition()
        # A daemon thread, so that `finish` limits the wait at the end of the run and not the interpreter.
        threading.Thread(target=self._work, name="push", daemon=True).start()

    def submit(self, snapshot: Snapshot) -> None:
        """Push a snapshot next, instead of one that is still waiting; return at once."""
        with self._changed:
            overtaken, self._next = self._next, snapshot
            self._changed.notify_all()
        if overtaken is not None:
            self._tell(
                f"Skipped the push of {overtaken.name}: checkpoints are written faster than the Hub accepts them."
            )
            shutil.rmtree(overtaken.folder, ignore_errors=True)

    def finish(self, timeout: float, drop_waiting: bool = False) -> bool:
        """Wait for the pushes.

        Args:
            timeout: longest wait in seconds.
            drop_waiting: skip a snapshot whose push has not begun.

        Returns:
            Whether all pushes have ended.
        """
        with self._changed:
            if drop_waiting and self._next is not None:
                shutil.rmtree(self._next.folder, ignore_errors=True)
                self._next = None
            return self._changed.wait_for(lambda: self._next is None and not self._busy, timeout)

    def _work(self) -> None:
        while True:
            snapshot = self._take()
            try:
                snapshot.send(snapshot.folder)
            except (PushError, UserError, OSError) as error:
                self._tell(
                    f"{snapshot.name.capitalize()} was not pushed: {without_tokens(str(error))} Training continues."
                )
            except Exception as error:  # no failure of a push may end training
                self._tell(f"{snapshot.name.capitalize()} was not pushed: {without_tokens(repr(error))}")
            finally:
                shutil.rmtree(snapshot.folder, ignore_errors=True)
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _take(self) -> Snapshot:
        """Wait for a snapshot, and mark it as being pushed."""
        with self._changed:
            while self._next is None:
                self._changed.wait()
            snapshot, self._next, self._busy = self._next, None, True
            return snapshot
