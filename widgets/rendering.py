"""Pictures of the latent: at once where the decoder is fast; else a small one first, and the full one in a pause."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from vae_plugin.metrics.reconstruction import psnr
from vae_plugin.widgets.codec import SLOW, Codec, Superseded
from vae_plugin.widgets.state import History, State
from vae_plugin.widgets.worker import Worker

AT_ONCE = 0.03  # seconds; a faster decode runs in the thread that asks for it
SETTLE = 0.12  # seconds of quiet before a slow model decodes at full size


@dataclass(frozen=True)
class Frame:
    """A decoded picture of a state.

    Attributes:
        state: what was decoded.
        image: (C, H, W), about in [-1, 1]; smaller than the full size if `preview`.
        preview: whether a full picture follows.
        indices: (h, w, indices per position) of a model with a codebook, or None.
        tag: the request that the picture answers.
    """

    state: State
    image: torch.Tensor
    preview: bool
    indices: torch.Tensor | None
    tag: Any = None

    def facts(self) -> dict[str, Any]:
        """Measurements of the picture: "psnr" in dB against the original, "kl" of the posterior in nats."""
        state = self.state
        facts: dict[str, Any] = {"name": state.title, "edited": state.edited, "sampled": state.seed is not None}
        if state.row is not None:
            facts["row"] = state.row
        if state.original is not None and self.image.shape == state.original.shape:
            facts["psnr"] = psnr(self.image[None], state.original[None]).item()
        if state.encoded is not None and state.encoded.kl is not None:
            facts["kl"] = state.encoded.kl.sum().item()
        return {name: fact for name, fact in facts.items() if fact == fact}  # JSON has no NaN


class Renderer:
    """Decodes the current state.

    Args:
        codec: the model.
        worker: the thread for slow work.
        history: owner of the state.
        on_frame: called with each picture, mostly from the worker's thread.
        on_failed: called with the tag of a request that gets no picture, see `Session`.
    """

    def __init__(
        self,
        codec: Codec,
        worker: Worker,
        history: History,
        on_frame: Callable[[Frame], None],
        on_failed: Callable[[Any, BaseException | None], None],
    ) -> None:
        self._codec = codec
        self._worker = worker
        self._history = history
        self._on_frame = on_frame
        self._on_failed = on_failed

    def show(self, tag: Any = None) -> None:
        """Decode the current state before anything else, without waiting for it."""
        here = (self._codec.decode_seconds or SLOW) < AT_ONCE

        def render() -> None:
            try:
                self._render(tag)
            except BaseException as error:
                self._on_failed(tag, error)
                if not isinstance(error, Exception):
                    raise

        self._worker.live(render, lambda: self._on_failed(tag, None), here)

    def show_and_wait(self) -> None:
        """Decode the current state at full size, and wait for it; raises what the decoder raises."""
        if self._worker.is_current_thread:
            self._render_full()
        else:
            self._worker.request(self._render_full).result()

    def _render(self, tag: Any) -> None:
        state = self._history.state
        shrink = self._codec.preview_shrink
        if shrink == 1:
            self._render_full(tag, state)
            return
        image = self._codec.decode_preview(state.latent, state.indices, shrink)
        self._on_frame(Frame(state, image, True, None, tag))
        self._worker.settle(self._render_settled, SETTLE)

    def _render_settled(self) -> None:
        with suppress(Superseded):  # the newer request has its own picture
            self._render_full(superseded=self._worker.live_waits)

    def _render_full(
        self, tag: Any = None, state: State | None = None, superseded: Callable[[], bool] | None = None
    ) -> None:
        state = state or self._history.state
        image = self._codec.decode_full(state.latent, state.indices, superseded)
        indices = None
        if self._codec.discrete:
            indices = self._codec.indices(state.latent) if state.indices is None else state.indices
        self._on_frame(Frame(state, image, False, indices, tag))
