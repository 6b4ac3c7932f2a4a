"""Sheets of small pictures, decoded in the background."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from vae_plugin.errors import UserError
from vae_plugin.widgets.codec import Codec
from vae_plugin.widgets.pictures import thumbnail
from vae_plugin.widgets.recipe import Recipe
from vae_plugin.widgets.state import State
from vae_plugin.widgets.worker import Worker
from vae_plugin.wording import shown

SIDE = 96  # pixels of a small picture, at most
BATCH = 8  # pictures that a fast model decodes at once
FAST = 0.05  # seconds of a decode
ADOPTABLE = ("strip", "prior")  # sheets whose pictures can become the current latent


@dataclass(frozen=True)
class Sheet:
    """Latents to show as small pictures.

    Attributes:
        latents: (N, C, h, w).
        indices: (N, h, w, indices per position), decoded instead of the latents; or None.
        recipes: how each latent comes to be; empty where none can be adopted.
        words: name of each.
        crop: rows and columns of pixels to keep of each picture; None keeps all, and shrinks them.
        base: the state that the latents are edits of, if they are.
        details: what else the front end is told.
    """

    latents: torch.Tensor
    indices: torch.Tensor | None = None
    recipes: Sequence[Recipe] = ()
    words: Sequence[str] = ()
    crop: tuple[slice, slice] | None = None
    base: State | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SheetPart:
    """Some pictures of a sheet.

    Attributes:
        sheet: the sheet.
        number: number of the drawing; a later one has a larger number.
        first: number of the first picture in the sheet.
        pictures: 8-bit RGBA, (h, w, 4) each.
    """

    sheet: Sheet
    number: int
    first: int
    pictures: Sequence[np.ndarray]


class Sheets:
    """Draws sheets; a new one replaces that of the same name.

    Args:
        codec: the model.
        worker: the thread for slow work.
        failed: called with the tag of a request whose sheet is not drawn to the end, and with its error.
    """

    def __init__(self, codec: Codec, worker: Worker, failed: Callable[..., None]) -> None:
        self._codec = codec
        self._worker = worker
        self._failed = failed
        self._sheets: dict[str, Sheet] = {}
        self._last: dict[str, tuple[Callable[[SheetPart], None], Any]] = {}
        codec.shown.observe(self._draw_again)
        self._number = 0

    def draw(self, name: str, sheet: Sheet, send: Callable[[SheetPart], None], tag: Any) -> None:
        """Decode a sheet a few pictures at a time, and send them.

        Args:
            name: name of the sheet.
            sheet: what to draw.
            send: called with each part.
            tag: the request, which is dropped if the sheet is replaced before its end.
        """
        self._number += 1
        number = self._number
        self._sheets[name], self._last[name] = sheet, (send, tag)

        def steps() -> Iterator[None]:
            batch = BATCH if (self._codec.decode_seconds or 0.0) < FAST else 1
            for first in range(0, len(sheet.latents), batch):
                if self._sheets[name] is not sheet:
                    self._failed(tag)
                    return
                try:
                    pictures = self._pictures(sheet, slice(first, first + batch))
                except Exception as error:
                    if self._sheets[name] is sheet:
                        self._last.pop(name, None)  # it would fail again
                    self._failed(tag, error)
                    return
                send(SheetPart(sheet, number, first, pictures))
                yield

        self._worker.background(steps(), soon=True)

    def _draw_again(self) -> None:
        for name, (send, tag) in list(self._last.items()):
            self.draw(name, replace(self._sheets[name]), send, tag)  # another object, so that one under way ends

    def adopted(self, name: str, i: int) -> State:
        """The state of picture i of a sheet.

        Raises:
            UserError: if there is no such picture, or the sheet is of another kind.
        """
        if name not in ADOPTABLE:
            raise UserError(f"a picture of {shown(name)} cannot be taken: only those of {' or '.join(ADOPTABLE)} can.")
        sheet = self._sheets.get(name)
        if sheet is None or not 0 <= i < len(sheet.latents):
            raise UserError(f"there is no picture {i} in {name!r}: draw it first.")
        return replace(
            sheet.base or State(sheet.latents[i], name=sheet.words[i]),
            latent=sheet.latents[i].clone(),
            indices=None if sheet.indices is None else sheet.indices[i],
            recipe=sheet.recipes[i],
            edited=True,
        )

    def _pictures(self, sheet: Sheet, chosen: slice) -> list[np.ndarray]:
        codec, latents = self._codec, sheet.latents[chosen]
        indices = None if sheet.indices is None else sheet.indices[chosen]
        if sheet.crop is not None:
            return [np.ascontiguousarray(rgba[sheet.crop]) for rgba in codec.to_rgba(codec.decode(latents, indices))]
        shrink = 1
        while max(codec.image_size) // (2 * shrink) >= SIDE and codec.preview_shrink > shrink:
            shrink *= 2
        if shrink > 1 and indices is None:
            latents = F.avg_pool2d(latents, shrink)
        return [thumbnail(rgba, SIDE) for rgba in codec.to_rgba(codec.decode(latents, indices))]
