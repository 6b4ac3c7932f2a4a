"""The latent that a lab shows, how it came to be, and what was shown before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch

from vae_plugin.errors import UserError
from vae_plugin.widgets.codec import Encoded
from vae_plugin.widgets.recipe import Copy, Expression, Line, Move, Paint, Recipe

HISTORY = 50  # changes that can be undone
HISTORY_BYTES = 256 * 2**20  # of what they keep; older changes are forgotten, but for the last


@dataclass(frozen=True)
class State:
    """One moment of a lab.

    Attributes:
        latent: (C, h, w), float32 on the CPU.
        indices: (h, w, indices per position), decoded instead of the latent where codes were chosen one by one.
        original: the image that was encoded, (C, H, W), or None.
        encoded: the encoder's output for that image.
        seed: seed of the posterior sample; None for the posterior's mean.
        source: Python that yields the original in any kernel; None if there is none.
        given: the latent that was set from Python, before it was edited.
        name: name of the image or the saved latent.
        labels: of the image, in words.
        recipe: how the latent came to be.
        edited: whether the latent differs from the encoder's.
        row: number of the image in the lab's images, if it is one of them.
    """

    latent: torch.Tensor
    indices: torch.Tensor | None = None
    original: torch.Tensor | None = None
    encoded: Encoded | None = None
    seed: int | None = None
    source: Expression | None = None
    given: torch.Tensor | None = None
    name: str = "latent"
    labels: str = ""
    recipe: Recipe = field(default_factory=Recipe)
    edited: bool = False
    row: int | None = None

    def edit(self, step: Move | Paint | Copy) -> State:
        """Do one more step."""
        recipe, latent = self.recipe.calculate(step, self.latent)
        return replace(self, latent=latent, indices=None, recipe=recipe, edited=True)

    @property
    def title(self) -> str:
        """Name and labels, in one line."""
        return ", ".join(words for words in (self.name, self.labels) if words)

    def replace_latent(self, latent: torch.Tensor, line: Line) -> State:
        """Replace the latent by what a line of Python yields."""
        return replace(self, latent=latent, indices=None, recipe=self.recipe.then(line), edited=True)

    def tensors(self) -> Iterator[torch.Tensor]:
        """What the state keeps in memory."""
        encoded = self.encoded or Encoded(self.latent, None, None)
        yield from (
            value
            for value in (self.latent, self.indices, self.original, self.given, encoded.mean, encoded.std, encoded.kl)
            if value is not None
        )
        if self.recipe.base is not None:
            yield self.recipe.base[1]


def given_state(latent: torch.Tensor, name: str, recipe: Recipe, indices: torch.Tensor | None = None) -> State:
    """The state of a latent from outside the lab's encoder."""
    return State(latent, indices, given=latent, name=name, recipe=recipe, edited=True)


class History:
    """The current state, and the earlier ones that can be undone.

    Args:
        state: the first state.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._past: list[State] = []
        self._gesture: object = None
        self._lock = threading.RLock()

    @property
    def state(self) -> State:
        """The current state."""
        return self._state

    @property
    def gesture(self) -> object:
        """The drag that the last change belongs to; None if it was not a drag."""
        return self._gesture

    def change(self, make: Callable[[State], State], gesture: object = None) -> None:
        """Replace the state by `make(state)`. Changes with the same `gesture`, a drag, are undone as one.

        Raises:
            UserError: if the new latent is not finite; nothing has changed then.
        """
        with self._lock:
            before, after = self._state, make(self._state)
            if not torch.isfinite(after.latent).all():
                raise UserError("this change would make the latent infinite or NaN: use smaller numbers.")
            self._state = after
            if gesture is None or gesture != self._gesture:
                self._past = _within_memory([*self._past[-HISTORY + 1 :], before])
            self._gesture = gesture

    def undo(self) -> None:
        """Return to the state before the last change.

        Raises:
            UserError: if there was no change.
        """
        with self._lock:
            if not self._past:
                raise UserError("there is nothing to undo.")
            self._state = self._past.pop()
            self._gesture = None

    def start_of(self, gesture: object) -> State:
        """The state in which a drag began; the current one if the last change was not part of that drag."""
        with self._lock:
            return self._past[-1] if gesture is not None and gesture == self._gesture else self._state


def _within_memory(past: list[State]) -> list[State]:
    """The latest states that together keep no more than `HISTORY_BYTES`, and the last in any case."""
    seen: dict[int, int] = {}  # a tensor that several states share counts once
    for number, state in enumerate(reversed(past)):
        seen |= {value.data_ptr(): value.numel() * value.element_size() for value in state.tensors()}
        if number and sum(seen.values()) > HISTORY_BYTES:
            return past[len(past) - number :]
    return past
