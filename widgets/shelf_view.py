"""The shelf as the front end shows it: names, norms and small pictures."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from vae_plugin.widgets.codec import Codec
from vae_plugin.widgets.outlet import Outlet
from vae_plugin.widgets.pictures import png, thumbnail
from vae_plugin.widgets.shelf import Shelf, ShelfKeeper
from vae_plugin.widgets.worker import Worker

SIDE = 96  # pixels of a picture, at most


class ShelfView:
    """Shows the shelf after each change; pictures of new latents are decoded in the background.

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
        self._pictures: dict[str, bytes] = {}  # by key; empty until decoded
        self._lock = threading.RLock()
        keeper.observe(self._show)
        codec.shown.observe(self._draw_again)

    def _show(self, shelf: Shelf) -> None:
        with self._lock:
            known = self._pictures
            self._pictures = {item.key: known.get(item.key, b"") for item in shelf}
            self._publish()
        if any(key not in known for key in self._pictures):
            self._worker.background(self._draw(shelf), soon=True)

    def _draw_again(self) -> None:
        with self._lock:
            self._pictures = {}
        self._show(self._keeper.shelf)

    def _draw(self, shelf: Shelf) -> Iterator[None]:
        for item in shelf:
            if self._pictures.get(item.key) != b"":  # removed meanwhile, or drawn already
                continue
            image = self._codec.decode(item.latent[None], None if item.indices is None else item.indices[None])
            picture = png(thumbnail(self._codec.to_rgba(image)[0], SIDE))
            with self._lock:
                if item.key in self._pictures:
                    self._pictures[item.key] = picture
                    self._publish()
            yield

    def _publish(self) -> None:
        self._outlet.publish(
            shelf=[
                {
                    "key": item.key,
                    "name": item.name,
                    "norm": round(item.latent.norm().item(), 3),
                    "png": self._pictures.get(item.key, b""),
                }
                for item in self._keeper.shelf
            ]
        )
