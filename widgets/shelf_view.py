"""The shelf as the front end shows it: names and norms at each change, small pictures when they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from vae_plugin.widgets.codec import Codec
from vae_plugin.widgets.outlet import Outlet
from vae_plugin.widgets.pictures import png, thumbnail
from vae_plugin.widgets.shelf import Saved, Shelf, ShelfKeeper
from vae_plugin.widgets.worker import Worker

SIDE = 96  # pixels of a picture, at most
BATCH = 8  # latents that are decoded at once


class ShelfView:
    """Shows the shelf after each change.

    Args:
        keeper: owner of the shelf.
        codec: the model.
        worker: the thread for slow work.
        outlet: the way to the front end.
    """

    def __init__(self, keeper: ShelfKeeper, codec: Codec, worker: Worker, outlet: Outlet) -> None:
        self._keeper = keeper
        self._codec = codec
        self._worker = worker
        self._outlet = outlet
        self._pictures: dict[str, bytes] = {}  # by key
        self._drawn = 0  # how often other bands were chosen: earlier pictures are of no use
        self._lock = threading.RLock()
        keeper.observe(self._show)
        codec.shown.observe(self._forget)

    def send(self, keys: Sequence[str], tag: Any) -> None:
        """Answer a request with the pictures of some latents, in the background."""
        self._worker.background(self._answer(keys, tag), soon=True)

    def pictures(self) -> dict[str, bytes]:
        """The pictures of all latents, by key."""
        for _ in self._draw(self._keeper.shelf):
            pass
        return dict(self._pictures)

    def _answer(self, keys: Sequence[str], tag: Any) -> Iterator[None]:
        wanted = [item for item in self._keeper.shelf if item.key in keys]
        try:
            yield from self._draw(wanted)
        except Exception as error:
            self._outlet.drop(tag, error)
            return
        with self._lock:
            found = {item.key: self._pictures[item.key] for item in wanted if item.key in self._pictures}
            drawn = self._drawn
        self._outlet.reply(tag, {"keys": list(found), "drawn": drawn}, list(found.values()))

    def _draw(self, items: Sequence[Saved]) -> Iterator[None]:
        with self._lock:
            missing = [item for item in items if item.key not in self._pictures]
            drawn = self._drawn
        for begin in range(0, len(missing), BATCH):
            chunk = missing[begin : begin + BATCH]
            for some in (
                [one for one in chunk if one.indices is None],
                [one for one in chunk if one.indices is not None],
            ):
                if some:
                    self._keep(some, drawn)
            yield

    def _keep(self, items: Sequence[Saved], drawn: int) -> None:
        indices = [item.indices for item in items if item.indices is not None]
        images = self._codec.decode(
            torch.stack([item.latent for item in items]), torch.stack(indices) if indices else None
        )
        pictures = [png(thumbnail(rgba, SIDE)) for rgba in self._codec.to_rgba(images)]
        with self._lock:
            if drawn == self._drawn:
                self._pictures |= {item.key: picture for item, picture in zip(items, pictures, strict=True)}

    def _show(self, shelf: Shelf) -> None:
        with self._lock:
            keys = {item.key for item in shelf}
            self._pictures = {key: picture for key, picture in self._pictures.items() if key in keys}
            self._publish()

    def _forget(self) -> None:
        with self._lock:
            self._pictures, self._drawn = {}, self._drawn + 1
            self._publish()

    def _publish(self) -> None:
        self._outlet.publish(
            shelf=[
                {"key": item.key, "name": item.name, "norm": round(item.latent.norm().item(), 3), "drawn": self._drawn}
                for item in self._keeper.shelf
            ]
        )
