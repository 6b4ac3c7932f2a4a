"""Requests of the front end, translated into calls of the session.

The front end sends requests {"do": name, "view": ..., "id": ..., ...}; each is answered once under its view and id, by
a "frame", a "reply", a "sheet" or a "dropped" (a newer request has overtaken it, or it failed), however long it takes:
meanwhile "alive" asks which requests are being worked on. Pictures travel as bytes beside the messages. Each request is
a method whose keyword-only parameters are the fields of the message.

In a page without a kernel (`LatentLab.export_html`) js/local/kernel.js answers the same requests with the same
messages. It has no encoder and no codebook: `path`, `bands` and `palette` do not exist there, `open` takes latents only
and `edit` no codes; the panel shows the reasons in their place (`ABSENT` in page/contents.py). A file comes whole,
without `piece`, and no error is kept to be `seen`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from vae_plugin.arguments import Whole, check
from vae_plugin.errors import UserError
from vae_plugin.json_types import fits
from vae_plugin.widgets import samples
from vae_plugin.widgets.codec import SEED
from vae_plugin.widgets.messages import check_message, fields
from vae_plugin.widgets.outlet import Outlet, plain_words
from vae_plugin.widgets.session import Session
from vae_plugin.widgets.sheets import Sheet, Sheets
from vae_plugin.widgets.shelf_view import ShelfView
from vae_plugin.widgets.turns import Turns
from vae_plugin.widgets.uploads import MAX_UPLOAD, Uploads
from vae_plugin.widgets.views import FrameView, send_sheet
from vae_plugin.wording import shown

MOST_AXES = 64  # that are decoded for one request
MOST_TILES = 32  # of a decoded plane, along one side
Name = str | int | None  # of a view, a request or a drag: the front end's own, returned to it
Pair = tuple[float, float]


class Panel:
    """The kernel's side of the conversation.

    Args:
        session: what the requests are about.
        outlet: the way to the front end.
        frames: told by each request how its views are connected.
        shelf_view: pictures of the saved latents.
    """

    def __init__(self, session: Session, outlet: Outlet, frames: FrameView, shelf_view: ShelfView) -> None:
        self._session = session
        self._outlet = outlet
        self._frames = frames
        self._shelf_view = shelf_view
        self._sheets = Sheets(session.codec, session.worker, outlet.drop)
        self._turns = Turns(self._obey)
        self._uploads = Uploads()

    def receive(self, content: Any, buffers: Sequence[Any]) -> None:
        """Do what a message asks, after those its view has sent before; errors are shown in the panel."""
        turn = content.get("turn") if isinstance(content, Mapping) else None
        if turn is not None and fits(turn, int):
            self._turns.take(_tag(content)["view"], turn, bool(content.get("first")), content, buffers)
        else:
            self._obey(content, buffers)

    def _obey(self, content: Any, buffers: Sequence[Any]) -> None:
        tag = _tag(content)
        try:
            check_message(content)
            self._outlet.expect(tag)
            self._frames.fill_segments = bool(content.get("loopback"))
            do = fields(content, _message, "the message")["do"]
            handler: Callable[..., None] | None = getattr(self, f"_do_{do}", None)
            if handler is None:
                raise UserError(f"the panel asked for {shown(do)}, which this version does not know.")
            handler(tag, buffers, **fields(content, handler, f"the request {shown(do)}"))
        except Exception as error:
            self._outlet.drop(tag, error)

    # --- the latent ---

    def _do_edit(self, tag: Any, buffers: Sequence[Any], *, edits: list[dict[str, Any]], gesture: Name = None) -> None:
        self._session.change(lambda state: self._session.edits.edit(state, edits), tag=tag, gesture=gesture)

    def _do_combine(self, tag: Any, buffers: Sequence[Any], *, operation: dict[str, Any], gesture: Name = None) -> None:
        session = self._session
        session.change(
            lambda state: session.edits.combine(state, operation, session.history.start_of(gesture)),
            tag=tag,
            gesture=gesture,
        )

    def _do_posterior(self, tag: Any, buffers: Sequence[Any], *, seed: Annotated[int | None, SEED] = None) -> None:
        self._session.change(lambda state: self._session.edits.sample_posterior(state, seed), tag=tag)

    def _do_reset(self, tag: Any, buffers: Sequence[Any]) -> None:
        self._session.change(self._session.edits.reset, tag=tag)

    def _do_undo(self, tag: Any, buffers: Sequence[Any]) -> None:
        self._session.undo(tag)

    # --- images and files ---

    def _do_bands(self, tag: Any, buffers: Sequence[Any], *, bands: list[int]) -> None:
        self._session.codec.shown.choose(bands)
        self._session.renderer.show(tag)

    def _do_pick(self, tag: Any, buffers: Sequence[Any], *, index: int) -> None:
        self._session.open_from_set(index, tag=tag)

    def _do_piece(self, tag: Any, buffers: Sequence[Any], *, upload: Name, at: Annotated[int, Whole(0)]) -> None:
        self._uploads.add((tag["view"], upload), at, bytes(buffers[0]) if buffers else b"")
        self._outlet.reply(tag, {})

    def _do_open(
        self,
        tag: Any,
        buffers: Sequence[Any],
        *,
        name: str = "image",
        upload: Name = None,
        at: Annotated[int, Whole(0)] = 0,
    ) -> None:
        data = bytes(buffers[0]) if buffers else b""
        if at > 0:  # the last piece
            data = self._uploads.finish((tag["view"], upload), at, data)
        if not 0 < len(data) <= MAX_UPLOAD:
            raise UserError(f"a file of {len(data)} bytes was given: give one of 1 byte to {MAX_UPLOAD // 2**20} MB.")
        self._session.open_file(plain_words(name), data, tag)

    def _do_path(self, tag: Any, buffers: Sequence[Any], *, path: str = "") -> None:
        path = path.strip()
        if not path:
            raise UserError("no path was given: enter the path of an image on the kernel's machine.")
        name = plain_words(path.replace("\\", "/").rsplit("/", 1)[-1])
        self._session.open_path(path, name, tag=tag)

    def _do_save(self, tag: Any, buffers: Sequence[Any], *, what: Literal["png", "latent", "shelf"]) -> None:
        session = self._session
        files: dict[str, Callable[[], bytes]] = {
            "png": session.picture_file,
            "latent": lambda: session.latents_file(with_shelf=False),
            "shelf": lambda: session.latents_file(with_shelf=True),
        }
        session.request(lambda: self._outlet.reply(tag, {}, [files[what]()]), tag)

    def _do_code(self, tag: Any, buffers: Sequence[Any]) -> None:
        self._outlet.reply(tag, {"text": self._session.code})

    def _do_select(self, tag: Any, buffers: Sequence[Any], *, rows: list[int]) -> None:
        self._session.selection.choose(rows)
        self._outlet.reply(tag, {})

    # --- the shelf ---

    def _do_keep(self, tag: Any, buffers: Sequence[Any], *, name: str | None = None) -> None:
        item = self._session.keep(plain_words(name or "") or None)
        self._outlet.reply(tag, {"key": item.key})

    def _do_thumbnails(self, tag: Any, buffers: Sequence[Any], *, keys: list[str]) -> None:
        self._shelf_view.send(keys, tag)

    def _do_take(self, tag: Any, buffers: Sequence[Any], *, key: str) -> None:
        self._session.take(key, tag=tag)

    def _do_remove(self, tag: Any, buffers: Sequence[Any], *, key: str) -> None:
        self._session.keeper.remove(key)
        self._outlet.reply(tag, {})

    def _do_rename(self, tag: Any, buffers: Sequence[Any], *, key: str, name: str = "") -> None:
        name = plain_words(name)
        if not name:
            raise UserError("an empty name was given: enter at least one character.")
        self._session.keeper.rename(key, name)
        self._outlet.reply(tag, {})

    # --- what is told ---

    def _do_alive(self, tag: Any, buffers: Sequence[Any], *, ids: list[int]) -> None:
        self._outlet.reply(tag, {"working": [number for number in ids if self._outlet.owes({**tag, "id": number})]})

    def _do_seen(self, tag: Any, buffers: Sequence[Any], *, number: int) -> None:
        self._outlet.seen(number)
        self._outlet.reply(tag, {})

    # --- sheets ---

    def _do_strip(
        self,
        tag: Any,
        buffers: Sequence[Any],
        *,
        axis: str | None = None,
        low: float | None = None,
        high: float | None = None,
        a: str | None = None,
        b: str | None = None,
        method: Literal["slerp", "lerp"] = "slerp",
        axes: list[str] | None = None,
        steps: Annotated[int, Whole(2, 64)] = 9,
    ) -> None:
        session, by_key = self._session, self._session.operands.by_key
        if axes:
            check({"axes": Whole(1, MOST_AXES)}, {"axes": len(axes)})
            sheet = samples.along_axes(session.survey.require_space(), session.state, axes, steps)
        elif axis is not None and low is not None and high is not None:
            sheet = samples.along_axis(session.survey.require_space(), session.state, axis, low, high, steps)
        elif axis is None and a is not None and b is not None:
            sheet = samples.between(by_key(a), by_key(b), method, steps)
        else:
            raise UserError("a strip has two ends: give axis, low and high; axes; or the latents a and b.")
        self._draw("strip", sheet, tag)

    def _do_ends(self, tag: Any, buffers: Sequence[Any], *, axes: list[str]) -> None:
        check({"axes": Whole(1, MOST_AXES)}, {"axes": len(axes)})
        session = self._session
        sheet = samples.along_axes(session.survey.require_space(), session.state, axes, 2)
        self._draw("ends", sheet, tag)

    def _do_results(
        self, tag: Any, buffers: Sequence[Any], *, operations: list[dict[str, Any]], gesture: Name = None
    ) -> None:
        check({"operations": Whole(1, 64)}, {"operations": len(operations)})
        session = self._session
        start = session.history.start_of(gesture)
        self._draw("results", samples.results(session.edits, session.state, operations, start), tag)

    def _do_prior(
        self,
        tag: Any,
        buffers: Sequence[Any],
        *,
        source: Literal["prior", "data"] = "prior",
        n: Annotated[int, Whole(1, 64)] = 12,
        seed: Annotated[int, SEED] = 0,
    ) -> None:
        self._draw("prior", samples.draw_samples(self._session.codec, self._session.survey, source, n, seed), tag)

    def _do_manifold(
        self,
        tag: Any,
        buffers: Sequence[Any],
        *,
        x: str,
        y: str,
        ranges: tuple[Pair, Pair],
        n: Annotated[int, Whole(1, MOST_TILES)] = 9,
        rows: Annotated[int | None, Whole(1, MOST_TILES, optional=True)] = None,
    ) -> None:
        space, latent = self._session.survey.require_space(), self._session.state.latent
        self._draw("manifold", samples.plane(space, latent, [x, y], ranges, n, rows or n), tag)

    def _do_palette(
        self,
        tag: Any,
        buffers: Sequence[Any],
        *,
        y: int,
        x: int,
        stage: int,
        order: Literal["near", "number"] = "near",
    ) -> None:
        self._draw("palette", samples.palette(self._session.codec, self._session.state, y, x, stage, order), tag)

    def _do_adopt(self, tag: Any, buffers: Sequence[Any], *, sheet: str, index: int) -> None:
        state = self._sheets.adopted(sheet, index)
        self._session.change(lambda _: state, tag=tag)

    def _draw(self, name: str, sheet: Sheet, tag: Any) -> None:
        self._sheets.draw(name, sheet, lambda part: send_sheet(name, part, tag, self._outlet), tag)


def _message(*, do: str) -> None:
    """What every message has."""


def _tag(content: Any) -> dict[str, Name]:
    """The view and the number of a request, by which it is answered."""
    given = content if isinstance(content, Mapping) else {}
    return {name: given.get(name) if fits(given.get(name), Name) else None for name in ("view", "id")}
