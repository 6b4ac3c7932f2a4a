"""A lab without its front end: the parts that hold its state, decode it and encode its images, put together."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vae_plugin.datasets import DataError
from vae_plugin.errors import UserError
from vae_plugin.widgets.codec import Codec, Encoded
from vae_plugin.widgets.edits import Edits
from vae_plugin.widgets.image_set import ImageSet
from vae_plugin.widgets.images import as_image, image_expression
from vae_plugin.widgets.latent_files import from_safetensors, to_safetensors
from vae_plugin.widgets.model_code import encoding, model_code
from vae_plugin.widgets.model_source import ModelSource
from vae_plugin.widgets.operands import Operands
from vae_plugin.widgets.pictures import png
from vae_plugin.widgets.recipe import Expression
from vae_plugin.widgets.rendering import Frame, Renderer
from vae_plugin.widgets.script import script
from vae_plugin.widgets.selection import Selection
from vae_plugin.widgets.shelf import Saved, Shelf, ShelfKeeper, unused_name
from vae_plugin.widgets.state import History, State
from vae_plugin.widgets.survey import Survey
from vae_plugin.widgets.worker import Worker


class Session:
    """What a lab works on. Methods that change the latent return at once; its picture follows.

    Args:
        codec: the model.
        images: the user's images, or generated ones.
        source: where the model is from.
        on_change: called when the latent has changed.
        on_frame: called with each picture, mostly from the worker's thread.
        on_failed: called with the tag of a request that gets no answer, and with the reason: None if a newer request
            has overtaken it. The tag is None for work that nobody waits for.

    Raises:
        UserError: if none of the images can be read, or the first that can be read cannot be encoded.
    """

    def __init__(
        self,
        codec: Codec,
        images: ImageSet,
        source: ModelSource,
        *,
        on_change: Callable[[], None],
        on_frame: Callable[[Frame], None],
        on_failed: Callable[[Any, BaseException | None], None],
    ) -> None:
        self.codec = codec
        self.images = images
        self.history = History(self._first_state())
        self.keeper = ShelfKeeper()
        self.survey = Survey(codec, images)
        self.operands = Operands(self.keeper, self.survey, images)
        self.selection = Selection(len(images))
        self.edits = Edits(codec, self.survey, self.operands)
        self.worker = Worker(lambda error: on_failed(None, error))
        self.renderer = Renderer(codec, self.worker, self.history, on_frame, on_failed)
        self._source = source
        self._on_change = on_change
        self._on_failed = on_failed

    def _first_state(self) -> State:
        reasons = []
        for i in range(len(self.images)):
            try:
                image = self.images[i]
            except DataError as error:
                reasons.append(f"{self.images.name(i)}: {error}")
                continue
            return self._state_of(i, image)
        count = "the one image" if len(reasons) == 1 else f"any of the {len(reasons)} images"
        raise DataError(f"LatentLab cannot use {count} that it was given. {reasons[0]}")

    @property
    def state(self) -> State:
        """The current state."""
        return self.history.state

    def change(self, make: Callable[[State], State], *, tag: Any = None, gesture: object = None) -> None:
        """Replace the state by `make(state)`, and show it; see `History.change`."""
        self.history.change(make, gesture)
        self._show_change(tag)

    def undo(self, tag: Any = None) -> None:
        """Return to the state before the last change, and show it."""
        self.history.undo()
        self._show_change(tag)

    def change_and_wait(self, state: State) -> None:
        """Replace the state, and wait for its picture; raises what an observer or the decoder raises."""
        self.history.change(lambda _: state)
        self._on_change()
        self.renderer.show_and_wait()

    def _show_change(self, tag: Any) -> None:
        try:
            self._on_change()
        finally:  # even if the user interrupts an observer
            self.renderer.show(tag)

    # --- images ---

    def encode(self, image: torch.Tensor) -> Encoded:
        """Encode one image (C, H, W); the tensors of the result are (C, h, w)."""
        return self.codec.encode(image[None]).one(0)

    def encoded_state(self, image: torch.Tensor, name: str, source: Expression | None) -> State:
        """The state of an image's posterior mean.

        Args:
            image: (C, H, W) in [-1, 1].
            name: name of the image.
            source: Python that yields the image, a tensor (C, H, W); None if there is none.
        """
        encoded = self.encode(image)
        if not torch.isfinite(encoded.mean).all():
            raise UserError("the encoder returned NaN or infinity for this image: use the model in float32.")
        recipe = encoding(self.codec, name, source, encoded.mean, None)
        return State(encoded.mean, original=image, encoded=encoded, source=source, name=name, recipe=recipe)

    def open_path(self, path: str, name: str, *, tag: Any = None) -> None:
        """Encode the image of a file in the worker's thread, and show it."""
        file = Path(os.path.expanduser(path))
        source = image_expression(file, self.codec.channels, self.codec.image_size, self.codec.value_range)
        self._open(lambda: self.encoded_state(self._load(file), name, source), tag)

    def open_from_set(self, i: int, *, tag: Any = None) -> None:
        """Encode image i of the lab's images in the worker's thread, and show it."""
        if not 0 <= i < len(self.images):
            raise UserError(f"there is no image {i}: the lab has images 0 to {len(self.images) - 1}.")
        self._open(lambda: self._state_of(i, self.images[i]), tag)

    def _state_of(self, i: int, image: torch.Tensor) -> State:
        state = self.encoded_state(image, self.images.name(i), self.images.expression(i))
        return replace(state, labels=self.images.labels_in_words(i), row=i)

    def _load(self, image: Any) -> torch.Tensor:
        return as_image(image, self.codec.channels, self.codec.image_size, self.codec.value_range)

    def _open(self, encode: Callable[[], State], tag: Any) -> None:
        def work() -> None:
            state = encode()
            self.change(lambda _: state, tag=tag)

        self.request(work, tag)

    def request(self, work: Callable[[], None], tag: Any) -> None:
        """Do this in the worker's thread; the sender of the request is told if it fails."""
        self.worker.post(work, lambda error: self._on_failed(tag, error))

    # --- saved latents and files ---

    def keep(self, name: str | None = None) -> Saved:
        """Put the current latent on the shelf."""
        state = self.state
        words = state.name
        if state.edited and state.encoded is not None:
            words += " edited"
        name = name or unused_name(words, self.keeper.shelf.names)
        [item] = self.keeper.add([Saved(name, state.latent, state.indices, state.recipe)])
        return item

    def take(self, key: str, *, tag: Any = None) -> None:
        """Show a saved latent."""
        state = self.edits.take(key)
        self.change(lambda _: state, tag=tag)

    def open_file(self, name: str, data: bytes, tag: Any = None) -> None:
        """Encode an image, or put the latents of a safetensors file on the shelf and show the first."""
        if name.lower().endswith(".safetensors"):
            items = self.keeper.add(from_safetensors(data, self.codec))
            self.take(items[0].key, tag=tag)
            return
        # Only the bytes have come here, so that Python cannot load the file again.
        self._open(lambda: self.encoded_state(self._load(data), name, None), tag)

    def picture_file(self) -> bytes:
        """The picture of the current latent as PNG file."""
        state = self.state
        return png(self.codec.to_rgba(self.codec.decode_full(state.latent, state.indices)[None])[0])

    def latents_file(self, with_shelf: bool) -> bytes:
        """The current latent, and the shelf if asked for, as safetensors file."""
        state = self.state
        current = Saved("current", state.latent, state.indices, state.recipe)
        items = Shelf([current, *(self.keeper.shelf if with_shelf else ())])
        metadata = {
            "made_by": "vae_plugin.widgets.LatentLab",
            "model": type(self.codec.model).__name__,
            "code": self.code,
        }
        return to_safetensors(items, metadata)

    @property
    def code(self) -> str:
        """Python that makes the current latent, its image and its picture again, in any kernel."""
        return script(self.state.recipe, model_code(self.codec, self._source.expression()))
