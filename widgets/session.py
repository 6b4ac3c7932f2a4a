"""What a lab is working on: a latent, where it came from, what was saved, and what the data say of the space."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..errors import UserError
from ..metrics.reconstruction import psnr
from .codec import SLOW, Codec, Encoded, Superseded
from .images import ImageSet, as_image
from .model_code import encoding_line, model_code
from .recipe import Line, Move, Paint, Recipe, Token, escaped
from .shelf import Saved, Shelf, combine, unused_name
from .space import LatentSpace, merge, survey
from .worker import Worker

HISTORY = 50
AT_ONCE = 0.03  # seconds of a decode that is done where it is asked for
SETTLE = 0.12  # seconds of quiet before a slow model decodes at full size
SURVEY_SECONDS = 20.0
SURVEY_AT_LEAST = 16


@dataclass(frozen=True)
class State:
    """One moment of a lab.

    Attributes:
        latent: (C, h, w), float32 on the CPU.
        indices: codes (h, w, codes per place) that are decoded instead, where codes were chosen one by one.
        original: the image that it was encoded from, (C, H, W), or None.
        encoded: what the encoder said of that.
        seed: of the sample of the posterior; None for its mean.
        source: Python that gives the original, a template like those of `recipe.Line`.
        given: a latent that was set from Python, before it was edited.
        name: of the image or the saved latent.
        recipe: how the latent came to be.
        edited: whether it is another than the encoder's.
    """

    latent: torch.Tensor
    indices: torch.Tensor | None = None
    original: torch.Tensor | None = None
    encoded: Encoded | None = None
    seed: int | None = None
    source: str = ""
    given: torch.Tensor | None = None
    name: str = "latent"
    recipe: Recipe = field(default_factory=Recipe)
    edited: bool = False


@dataclass(frozen=True)
class Frame:
    """A decoded picture of a state.

    Attributes:
        state: what was decoded.
        image: (C, H, W) in about [-1, 1]; smaller than the full size if `preview`.
        preview: whether a full one follows.
        tokens: codes (h, w, codes per place), or None.
        tag: of the request that it answers.
    """

    state: State
    image: torch.Tensor
    preview: bool
    tokens: torch.Tensor | None
    tag: Any = None


class Session:
    """The lab without its front end.

    Methods that change the latent return at once; `on_frame` is called from the worker's thread with the picture.

    Args:
        codec: the model.
        images: of the user, or generated ones.
        on_change: called when the latent has changed.
        on_frame: called with each picture.
        on_dropped: called with the tag of a request that a newer one has overtaken.
        on_error: called with the exception of work that nobody waits for.
    """

    def __init__(
        self,
        codec: Codec,
        images: ImageSet,
        *,
        on_change: Callable[[], None],
        on_frame: Callable[[Frame], None],
        on_dropped: Callable[[Any], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self.codec = codec
        self.images = images
        self.space: LatentSpace | None = None
        self._survey_error: Exception | None = None
        self.shelf = Shelf()
        zeros = Line(f"z = torch.zeros{tuple(codec.latent_shape)}")
        self.state = State(torch.zeros(codec.latent_shape), name="zeros", recipe=Recipe((zeros,)))
        self.worker = Worker(on_error)
        self._on_change = on_change
        self._on_frame = on_frame
        self._on_dropped = on_dropped
        self._on_error = on_error
        self._lock = threading.RLock()
        self._history: list[State] = []
        self._gesture: Any = None

    @property
    def gesture(self) -> Any:
        """The drag that the last change belongs to."""
        return self._gesture

    # --- changes of the latent ---

    def change(
        self, make: Callable[[State], State], *, tag: Any = None, gesture: Any = None, show: bool = True
    ) -> None:
        """Replace the state by what `make` makes of it, and show it unless the caller does.

        Changes with the same `gesture`, a drag, are undone as one.
        """
        with self._lock:
            before, after = self.state, make(self.state)
            if not torch.isfinite(after.latent).all():
                raise UserError("that would make the latent infinite or NaN: give smaller numbers.")
            self.state = after
            if gesture is None or gesture != self._gesture:
                self._history = [*self._history[-HISTORY + 1 :], before]
            self._gesture = gesture
        try:
            self._on_change()
        finally:  # whatever an observer does
            if show:
                self.show(tag)

    def show(self, tag: Any = None) -> None:
        """Decode the latest state before anything else."""
        here = (self.codec.decode_seconds or SLOW) < AT_ONCE

        def render() -> None:
            try:
                self._render(tag)
            except Exception:
                self._on_dropped(tag)
                raise

        self.worker.live(render, lambda: self._on_dropped(tag), here)

    def render_now(self) -> None:
        """Decode the state at full size, and wait for it; raises what the decoder raises."""
        if self.worker.is_current_thread:
            self._render_full()
        else:
            self.worker.request(self._render_full).result()

    def edit(self, edits: Sequence[Mapping[str, Any]], *, tag: Any = None, gesture: Any = None) -> None:
        """Apply edits in order: {"axis", "value"}, {"paint": ...} or {"token": ...}, see the three methods."""

        def make(state: State) -> State:
            for edit in edits:
                if "axis" in edit:
                    state = self._moved(state, str(edit["axis"]), float(edit["value"]))
                elif "paint" in edit:
                    state = self._painted(state, edit["paint"])
                elif "token" in edit:
                    state = self._with_token(state, edit["token"])
                else:
                    raise UserError(f"an edit has {', '.join(edit)}: it must have axis, paint or token.")
            return state

        self.change(make, tag=tag, gesture=gesture)

    def _moved(self, state: State, axis: str, value: float) -> State:
        step = Move(axis, value)
        return self._edited(state, self.require_space().move(state.latent, axis, value), step)

    def _painted(self, state: State, paint: Mapping[str, Any]) -> State:
        """{"cells": [[y, x, weight]], "channel", "amount"} adds; {"cells", "from": key or "mean"} copies."""
        _, height, width = state.latent.shape
        cells = [(int(y), int(x), float(weight)) for y, x, weight in paint["cells"]]
        cells = [cell for cell in cells if 0 <= cell[0] < height and 0 <= cell[1] < width]
        z = state.latent.clone()
        source = paint.get("from")
        if source is not None:
            latent = self.require_space().mean if source == "mean" else self.shelf.by_key(source).latent
            for y, x, _ in cells:
                z[:, y, x] = latent[:, y, x]
            text, key = ("{lab}.space.mean", None) if source == "mean" else ("{0}.latent", source)
            return self._edited(state, z, Paint(None, {(y, x): 1.0 for y, x, _ in cells}, text, key))
        channel = int(paint["channel"])
        if not 0 <= channel < len(z):
            raise UserError(f"there is no channel {channel}: the latent has {len(z)}.")
        added: dict[tuple[int, int], float] = {}
        for y, x, weight in cells:
            z[channel, y, x] += weight * float(paint["amount"])
            added[(y, x)] = added.get((y, x), 0.0) + weight * float(paint["amount"])
        return self._edited(state, z, Paint(channel, added))

    def _with_token(self, state: State, token: Mapping[str, Any]) -> State:
        """{"y", "x", "stage", "code"}: the codes are decoded from then on, whatever the quantiser makes of them."""
        if not self.codec.discrete:
            raise UserError("this model has no codes: only those of a vector-quantised one can be chosen.")
        ids = (self.codec.tokens(state.latent) if state.indices is None else state.indices).clone()
        y, x, stage, code = (int(token[name]) for name in ("y", "x", "stage", "code"))
        size = self.codec.model.codebook_size
        if not (0 <= code < size and 0 <= y < ids.shape[0] and 0 <= x < ids.shape[1] and 0 <= stage < ids.shape[2]):
            raise UserError(f"there is no code {code} at place ({y}, {x}): the codebook has 0 to {size - 1}.")
        ids[y, x, stage] = code
        step = Token(y, x, stage if ids.shape[2] > 1 else -1, code)
        return replace(self._edited(state, self.codec.codes(ids), step), indices=ids)

    def _edited(self, state: State, latent: torch.Tensor, step: Any) -> State:
        return replace(state, latent=latent, indices=None, recipe=state.recipe.then(step), edited=True)

    def combine(self, operation: Mapping[str, Any], *, tag: Any = None, gesture: Any = None) -> None:
        """The latent becomes the result of an operation on saved ones, see `shelf.combine`.

        An attribute is added to the latent as it was before the gesture. It can also come from the data's labels:
        {"op": "attribute", "label", "value", "strength"}.
        """

        def make(state: State) -> State:
            start = self._history[-1] if gesture is not None and gesture == self._gesture else state
            if operation.get("op") == "attribute" and "label" in operation:
                latent, line = self._label_attribute(operation, start.latent)
            else:
                latent, line = combine(operation, self.shelf, start.latent)
            if operation.get("op") == "attribute":
                return replace(self._edited(start, latent, line))
            return State(latent, name=str(operation.get("op")), recipe=Recipe((line,)), edited=True)

        self.change(make, tag=tag, gesture=gesture)

    def _label_attribute(self, operation: Mapping[str, Any], base: torch.Tensor) -> tuple[torch.Tensor, Line]:
        name, value = str(operation["label"]), operation.get("value")
        strength = float(operation.get("strength", 1.0))
        direction = self.group(name, value).mean(0) - self.group(name, value, inside=False).mean(0)
        of = escaped(f"{name!r}, {value!r}")
        groups = ", ".join(f"{{lab}}.group({of}{tail})" for tail in ("", ", inside=False"))
        text = f"z = z + {strength!r} * attribute_vector({groups})"
        return base + strength * direction, Line(text, imports=("attribute_vector",))

    def group(self, name: str, value: str | None = None, inside: bool = True) -> torch.Tensor:
        """Latents (n, C, h, w) of the images with a label, or with `inside=False` of those without it.

        Args:
            name: of the label.
            value: a category; of a quantity nothing: those above its median.
            inside: those with the label.

        Raises:
            UserError: if there is no such label, or no such image.
        """
        means = self.require_space().means
        if name not in self.images.labels:
            known = ", ".join(self.images.labels) or "none"
            raise UserError(f"there is no label {name!r}: the labels of these images are {known}.")
        labels = self.images.labels[name]
        values = torch.from_numpy(labels.values[self.require_space().rows])
        if labels.names is None:
            chosen = values > values.median()
        elif value in labels.names:
            chosen = values == labels.names.index(value)
        else:
            raise UserError(f"{name} is never {value!r}: it is one of {', '.join(labels.names)}.")
        found = means[chosen if inside else ~chosen]
        if not len(found):
            raise UserError(f"no image of those looked at is {'' if inside else 'not '}{value} by {name}.")
        return found

    def set_latent(self, latent: torch.Tensor, name: str, line: Line, indices: torch.Tensor | None = None) -> State:
        """The state of a latent that comes from outside."""
        return State(latent, indices, given=latent, name=name, recipe=Recipe((line,)), edited=True)

    def undo(self, tag: Any = None) -> None:
        """Back to the state before the last change."""
        with self._lock:
            if not self._history:
                raise UserError("there is nothing to undo.")
            self.state = self._history.pop()
            self._gesture = None
        try:
            self._on_change()
        finally:  # whatever an observer does
            self.show(tag)

    # --- images ---

    def encode(self, image: torch.Tensor) -> Encoded:
        """What the encoder says of one image (C, H, W): each tensor (C, h, w)."""
        encoded = self.codec.encode(image[None])
        return Encoded(*(None if part is None else part[0] for part in (encoded.mean, encoded.std, encoded.kl)))

    def encoded_state(self, image: torch.Tensor, name: str, source: str) -> State:
        """The state of an image's posterior mean.

        Args:
            image: (C, H, W) in [-1, 1].
            name: what to call it.
            source: Python that gives the image, a tensor (C, H, W); a template like those of `recipe.Line`.
        """
        encoded = self.encode(image)
        if not torch.isfinite(encoded.mean).all():
            raise UserError("the encoder gave NaN or infinity for this image: use the model in float32.")
        recipe = Recipe((encoding_line(self.codec, source, None),))
        return State(encoded.mean, original=image, encoded=encoded, source=source, name=name, recipe=recipe)

    def open_image(self, source: Any, name: str, code: str, *, tag: Any = None) -> None:
        """Encode an image of any form in the worker's thread, and show it."""

        def work() -> None:
            image = as_image(source, self.codec.channels, self.codec.image_size)
            state = self.encoded_state(image, name, code)
            self.change(lambda _: state, tag=tag)

        self.request(work, tag)

    def open_from_set(self, i: int, *, tag: Any = None) -> None:
        """Encode image i of the lab's set in the worker's thread, and show it."""
        if not 0 <= i < len(self.images):
            raise UserError(f"there is no image {i}: the lab has {len(self.images)}.")

        def work() -> None:
            state = self.encoded_state(self.images[i], self.images.describe(i), f"{{lab}}.images[{i}]")
            self.change(lambda _: state, tag=tag)

        self.request(work, tag)

    def draw_posterior(self, seed: int | None, *, tag: Any = None) -> None:
        """A sample of the posterior of the image that was encoded, or with `seed=None` its mean."""

        def make(state: State) -> State:
            encoded = state.encoded
            if encoded is None:
                raise UserError("there is no image whose posterior could be sampled: encode one first.")
            recipe = Recipe((encoding_line(self.codec, state.source, seed),))
            if seed is None:
                return replace(state, latent=encoded.mean, indices=None, seed=None, recipe=recipe, edited=False)
            if encoded.std is None:
                raise UserError("the posterior of this model is certain: its mean is all there is.")
            return replace(state, latent=encoded.sample(seed), indices=None, seed=seed, recipe=recipe, edited=False)

        self.change(make, tag=tag)

    def reset(self, *, tag: Any = None) -> None:
        """Back to what the encoder said; without an image to the mean of the data."""
        if self.state.encoded is not None:
            self.draw_posterior(self.state.seed, tag=tag)
        else:
            mean = self.require_space().mean
            self.change(
                lambda _: self.set_latent(mean.clone(), "mean of the data", Line("z = {lab}.space.mean.clone()")),
                tag=tag,
            )

    # --- shelf ---

    def keep(self, name: str | None = None) -> Shelf:
        """The shelf with the current latent on it."""
        state = self.state
        words = state.name.split(",")[0]
        if state.edited and state.encoded is not None:
            words += " edited"
        name = name or unused_name(words, self.shelf.names)
        return Shelf([*self.shelf, Saved(name, state.latent, state.indices, state.recipe)])

    def take(self, key: str, *, tag: Any = None) -> None:
        """The latent becomes a saved one."""
        item = self.shelf.by_key(key)
        if item.indices is None:
            line = Line("z = {0}.latent.clone()", (item.key,))
        else:
            native = "" if item.indices.shape[-1] > 1 else "[..., 0]"
            line = Line(f"ids = {{0}}.indices{native}.clone()", (item.key,), ids=True)
        self.change(lambda _: self.set_latent(item.latent, item.name, line, item.indices), tag=tag)

    # --- what the data say ---

    def require_space(self) -> LatentSpace:
        """The latent space of the lab's images.

        Raises:
            UserError: as long as they are not encoded.
        """
        if self._survey_error is not None:
            raise UserError(f"the lab's images could not be encoded: {self._survey_error}")
        if self.space is None:
            raise UserError("the images are still being encoded: wait until the lab says that it is ready.")
        return self.space

    def look_around(self, progress: Callable[[int, int], None], done: Callable[[LatentSpace], None]) -> None:
        """Encode the images of the set when there is nothing else to do, for at most `SURVEY_SECONDS`."""

        def steps() -> Iterator[None]:
            parts, seconds = [], 0.0
            batches = survey(self.codec, self.images, 8 if self.codec.image_size[0] <= 128 else 1)
            seen = 0
            while True:
                begin = time.perf_counter()
                try:
                    part = next(batches, None)
                except Exception as error:
                    self._survey_error = error
                    raise
                seconds += time.perf_counter() - begin
                if part is None or (seconds > SURVEY_SECONDS and seen >= SURVEY_AT_LEAST):
                    break
                parts.append(part)
                seen += len(part.rows)
                progress(seen, len(self.images))
                yield
            if not seen:
                self._survey_error = UserError("none of them can be read, or the encoder gives NaN for each.")
                self.require_space()
            self.space = merge(parts, self.images.labels)
            done(self.space)

        self.worker.background(steps())

    # --- code ---

    def code(self, lab: str) -> str:
        """Python that makes the current latent and its image again, in which `lab` is the name of the lab."""
        names = {item.key: f"{lab}.shelf[{item.name!r}]" for item in self.shelf}
        return self.state.recipe.code(model_code(self.codec), lab, names.get)

    # --- pictures ---

    def _render(self, tag: Any) -> None:
        state = self.state
        shrink = self.codec.preview_shrink
        if shrink == 1:
            self._render_full(tag, state)
            return
        image = self.codec.decode_preview(state.latent, state.indices, shrink)
        self._on_frame(Frame(state, image, True, None, tag))
        self.worker.settle(self._settle, SETTLE)

    def _settle(self) -> None:
        with suppress(Superseded):  # the newer request has its own picture
            self._render_full(superseded=self.worker.live_waits)

    def _render_full(
        self, tag: Any = None, state: State | None = None, superseded: Callable[[], bool] | None = None
    ) -> None:
        state = state or self.state
        image = self.codec.decode_full(state.latent, state.indices, superseded)
        tokens = None
        if self.codec.discrete:
            tokens = self.codec.tokens(state.latent) if state.indices is None else state.indices
        self._on_frame(Frame(state, image, False, tokens, tag))

    def facts(self, frame: Frame) -> dict[str, Any]:
        """What is measured of a picture: "psnr" in dB against the original, "kl" of its posterior in nats."""
        state = frame.state
        facts: dict[str, Any] = {"name": state.name, "edited": state.edited, "sampled": state.seed is not None}
        if state.original is not None and frame.image.shape == state.original.shape:
            facts["psnr"] = psnr(frame.image[None], state.original[None]).item()
        if state.encoded is not None and state.encoded.kl is not None:
            facts["kl"] = state.encoded.kl.sum().item()
        return {name: fact for name, fact in facts.items() if fact == fact}  # JSON has no NaN

    def request(self, work: Callable[[], None], tag: Any) -> None:
        """Do this in the worker's thread; the one who asked is told if it fails."""

        def guarded() -> None:
            try:
                work()
            except Exception:
                self._on_dropped(tag)
                raise

        self.worker.request(guarded).add_done_callback(self._report)

    def _report(self, done: Future) -> None:
        if not done.cancelled() and done.exception() is not None:
            self._on_error(done.exception())
