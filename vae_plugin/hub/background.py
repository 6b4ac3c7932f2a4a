"""Pushes that nobody waits for: one at a time, the newest next, what is overtaken left out."""

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
    """A folder that is to be sent, and is removed then.

    Attributes:
        folder: of nobody else.
        name: of what is in it, for messages: "step 500".
        send: sends the folder.
    """

    folder: Path
    name: str
    send: Callable[[Path], object]


class BackgroundPush:
    """Sends snapshots from a thread. A failed one is told and left: the next one has newer weights.

    Args:
        tell: shows a line to the user.
    """

    def __init__(self, tell: Callable[[str], None] = print) -> None:
        self.failures = 0
        self._tell = tell
        self._next: Snapshot | None = None
        self._busy = False
        self._changed = threading.Condition()
        # A daemon: at the end `finish` waits for it as long as it should, not the interpreter for ever.
        threading.Thread(target=self._work, name="push", daemon=True).start()

    def submit(self, snapshot: Snapshot) -> None:
        """Send this one next; one that still waits is left out. Returns at once."""
        with self._changed:
            overtaken, self._next = self._next, snapshot
            self._changed.notify_all()
        if overtaken is not None:
            self._tell(f"The push of {overtaken.name} is left out: the Hub is slower than the checkpoints.")
            shutil.rmtree(overtaken.folder, ignore_errors=True)

    def finish(self, timeout: float, drop_waiting: bool = False) -> bool:
        """Wait until all is sent, at most `timeout` seconds; whether it is.

        Args:
            timeout: seconds.
            drop_waiting: leave out the snapshot that has not begun to be sent.
        """
        with self._changed:
            if drop_waiting and self._next is not None:
                shutil.rmtree(self._next.folder, ignore_errors=True)
                self._next = None
            return self._changed.wait_for(lambda: self._next is None and not self._busy, timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next is not None)
                snapshot, self._next, self._busy = self._next, None, True
            try:
                snapshot.send(snapshot.folder)
            except (PushError, UserError, OSError) as error:
                self.failures += 1
                self._tell(
                    f"{snapshot.name.capitalize()} was not pushed: {without_tokens(str(error))} Training goes on."
                )
            except Exception as error:  # whatever it is, training does not end by it
                self.failures += 1
                self._tell(f"{snapshot.name.capitalize()} was not pushed: {without_tokens(repr(error))}")
            finally:
                shutil.rmtree(snapshot.folder, ignore_errors=True)
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
