"""Requests of the front end, translated into calls of the session.

The front end sends requests {"do": name, "view": ..., "id": ..., ...}; each is answered once under its view and id, by
a "frame", a "reply", a "sheet" or a "dropped" (a newer request has overtaken it, or it failed). Pictures travel as
bytes beside the messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vae_plugin.errors import UserError
from vae_plugin.widgets import samples
from vae_plugin.widgets.outlet import Outlet, plain_words
from vae_plugin.widgets.recipe import escaped
from vae_plugin.widgets.session import Session
from vae_plugin.widgets.sheets import Sheet, Sheets
from vae_plugin.widgets.turns import Turns
from vae_plugin.widgets.views import FrameView, send_sheet

MAX_UPLOAD = 100 * 2**20  # bytes


class Panel:
    """The kernel's side of the conversation.

    Args:
        session: what the requests are about.
        outlet: the way to the front end.
        frames: told by each request how its views are connected.
    """

    def __init__(self, session: Session, outlet: Outlet, frames: FrameView) -> None:
        self._session = session
        self._outlet = outlet
        self._frames = frames
        self._sheets = Sheets(session.codec, session.worker, outlet.drop)
        self._turns = Turns(self._obey)

    def receive(self, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        """Do what a message asks, after those its view has sent before; errors are shown in the panel."""
        turn = content.get("turn")
        if isinstance(turn, int):
            self._turns.take(content.get("view"), turn, bool(content.get("first")), content, buffers)
        else:
            self._obey(content, buffers)

    def _obey(self, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        tag = {"view": content.get("view"), "id": content.get("id")}
        self._frames.fill_segments = bool(content.get("loopback"))
        try:
            handler: Callable[..., None] | None = getattr(self, f"_do_{content.get('do')}", None)
            if handler is None:
                raise UserError(f"the panel asked for {content.get('do')!r}, which this version does not know.")
            handler(content, buffers, tag)
        except Exception as error:
            self._outlet.drop(tag)
            self._outlet.fail(error)

    # --- the latent ---

    def _do_edit(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        edits = content["edits"]
        self._session.change(
            lambda state: self._session.edits.edit(state, edits), tag=tag, gesture=content.get("gesture")
        )

    def _do_combine(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        session, operation, gesture = self._session, content["operation"], content.get("gesture")
        session.change(
            lambda state: session.edits.combine(state, operation, session.history.start_of(gesture)),
            tag=tag,
            gesture=gesture,
        )

    def _do_posterior(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        seed = None if content.get("seed") is None else int(content["seed"])
        self._session.change(lambda state: self._session.edits.sample_posterior(state, seed), tag=tag)

    def _do_reset(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        self._session.change(self._session.edits.reset, tag=tag)

    def _do_undo(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        self._session.undo(tag)

    # --- images and files ---

    def _do_pick(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        self._session.open_from_set(int(content["index"]), tag=tag)

    def _do_open(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        data = bytes(buffers[0]) if buffers else b""
        if not 0 < len(data) <= MAX_UPLOAD:
            raise UserError(f"a file of {len(data)} bytes was given: give one of 1 byte to {MAX_UPLOAD // 2**20} MB.")
        self._session.open_file(plain_words(str(content.get("name", "image"))), data, tag)

    def _do_path(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        path = str(content.get("path", "")).strip()
        if not path:
            raise UserError("no path was given: enter the path of an image on the kernel's machine.")
        name = plain_words(path.replace("\\", "/").rsplit("/", 1)[-1])
        self._session.open_image(path, name, f"{{lab}}.load({escaped(repr(path))})", tag=tag)

    def _do_save(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        what, session = content.get("what"), self._session
        files: dict[Any, Callable[[], bytes]] = {
            "png": session.picture_file,
            "latent": lambda: session.latents_file(with_shelf=False),
            "shelf": lambda: session.latents_file(with_shelf=True),
        }
        if what not in files:
            raise UserError(f"cannot save {what!r}: use png, latent or shelf.")
        session.request(lambda: self._outlet.reply(tag, {}, [files[what]()]), tag)

    def _do_code(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        self._outlet.reply(tag, {"text": self._session.code})

    # --- the shelf ---

    def _do_keep(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        item = self._session.keep(plain_words(str(content.get("name") or "")) or None)
        self._outlet.reply(tag, {"key": item.key})

    def _do_take(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        self._session.take(str(content["key"]), tag=tag)

    def _do_remove(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        self._session.keeper.remove(content["key"])
        self._outlet.reply(tag, {})

    def _do_rename(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        name = plain_words(str(content.get("name", "")))
        if not name:
            raise UserError("an empty name was given: enter at least one character.")
        self._session.keeper.rename(content["key"], name)
        self._outlet.reply(tag, {})

    # --- sheets ---

    def _do_strip(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        session, steps = self._session, _between(int(content.get("steps", 9)), 2, 64)
        if "axis" in content:
            axis, low, high = str(content["axis"]), float(content["low"]), float(content["high"])
            sheet = samples.along_axis(session.survey.require_space(), session.state, axis, low, high, steps)
        else:
            a, b = (session.keeper.shelf.by_key(content[name]) for name in ("a", "b"))
            sheet = samples.between(a, b, "lerp" if content.get("method") == "lerp" else "slerp", steps)
        self._draw("strip", sheet, tag)

    def _do_prior(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        n, seed = _between(int(content.get("n", 12)), 1, 64), int(content.get("seed", 0))
        source = str(content.get("source", "prior"))
        self._draw("prior", samples.draw_samples(self._session.codec, self._session.survey, source, n, seed), tag)

    def _do_manifold(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        side, axes = _between(int(content.get("n", 9)), 2, 15), [content["x"], content["y"]]
        space, latent = self._session.survey.require_space(), self._session.state.latent
        self._draw("manifold", samples.plane(space, latent, axes, content["ranges"], side), tag)

    def _do_palette(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        y, x, stage = (int(content[name]) for name in ("y", "x", "stage"))
        order = str(content.get("order", "near"))
        self._draw("palette", samples.palette(self._session.codec, self._session.state, y, x, stage, order), tag)

    def _do_adopt(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        state = self._sheets.adopted(str(content["sheet"]), int(content["index"]))
        self._session.change(lambda _: state, tag=tag)

    def _draw(self, name: str, sheet: Sheet, tag: Any) -> None:
        self._sheets.draw(name, sheet, lambda part: send_sheet(name, part, tag, self._outlet), tag)


def _between(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))
