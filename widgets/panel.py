"""The kernel's side of the conversation with the front end.

The front end sends requests {"do": name, "view": ..., "id": ..., ...}; each is answered once under its view and id, by
a "frame", a "reply", a "sheet" or a "dropped" (a newer request has overtaken it, or it failed). Pictures travel as
bytes beside the messages.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import UserError
from ..latents import interpolate
from . import sheets
from .codec import to_rgba
from .pictures import join, jpeg, png, thumbnail
from .recipe import Line, Move, escaped
from .session import Frame, Session
from .shelf import Shelf
from .space import LatentSpace
from .turns import Turns

if TYPE_CHECKING:
    from .lab import LatentLab

RAW_PIXELS = 256 * 256  # pictures up to here travel as they are, larger ones as PNG
# The server's socket holds a small message back while an earlier one (the kernel's "busy") is not acknowledged, which
# takes the browser 40 ms (Nagle's algorithm and delayed acknowledgement). It never holds back a whole segment, which
# has 64 KB on the loopback: there frames are filled up to one. A network's segments are small, and it needs no filling.
FULL_SEGMENT = 66_000  # bytes
THUMBNAILS = 60
SHELF_SIDE = 96
MAX_UPLOAD = 100 * 2**20  # bytes


def plain_words(text: str) -> str:
    """Text in one line, without control characters."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text).strip()


class Panel:
    """Requests of the front end as calls of the session, and its pictures as messages.

    Args:
        lab: the widget.
        session: what it works on.
    """

    def __init__(self, lab: LatentLab, session: Session) -> None:
        self._lab = lab
        self._session = session
        self._sheets = sheets.Sheets(session, self.dropped)
        self._original_sent: torch.Tensor | None = None
        self._full_segments = False
        self._turns = Turns(self._obey)
        self._shelf_lock = threading.RLock()

    def info(self) -> dict[str, Any]:
        """What does not change: the model in words and numbers."""
        codec = self._session.codec
        model = codec.model
        discrete = codec.discrete
        return {
            "model": type(model).__name__,
            "device": str(model.device),
            "dtype": str(model.dtype).removeprefix("torch."),
            "image": [codec.channels, *codec.image_size],
            "latent": list(codec.latent_shape),
            "flat": codec.flat,
            "discrete": discrete,
            "codes": model.codebook_size if discrete else 0,
            "stages": model.quantizer.codes_per_position if discrete else 0,
            "samples": not discrete,
            "images": len(self._session.images),
            "labels": [
                {"name": name, "names": labels.names, "values": [_json_number(v) for v in labels.values]}
                for name, labels in self._session.images.labels.items()
            ],
        }

    # --- from the front end ---

    def receive(self, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        """Do what a message asks, after those that its view has sent before; what goes wrong is said in the panel."""
        turn = content.get("turn")
        if isinstance(turn, int):
            self._turns.take(content.get("view"), turn, bool(content.get("first")), content, buffers)
        else:
            self._obey(content, buffers)

    def _obey(self, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        tag = {"view": content.get("view"), "id": content.get("id")}
        self._full_segments = bool(content.get("loopback"))
        try:
            handler = getattr(self, f"_do_{content.get('do')}", None)
            if handler is None:
                raise UserError(f"the panel asked for {content.get('do')!r}, which this version does not know.")
            handler(content, buffers, tag)
        except Exception as error:
            self.dropped(tag)
            self.fail(error)

    def _do_edit(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        self._session.edit(content["edits"], tag=tag, gesture=content.get("gesture"))

    def _do_combine(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        self._session.combine(content["operation"], tag=tag, gesture=content.get("gesture"))

    def _do_open(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        data = bytes(buffers[0]) if buffers else b""
        if not 0 < len(data) <= MAX_UPLOAD:
            raise UserError(f"a file of {len(data)} bytes was given: give one of up to {MAX_UPLOAD // 2**20} MB.")
        self._lab._open_file(plain_words(str(content.get("name", "image"))), data, tag)

    def _do_path(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        path = str(content.get("path", "")).strip()
        if not path:
            raise UserError("no path was given: write where the image lies, on the kernel's machine.")
        name = plain_words(path.replace("\\", "/").rsplit("/", 1)[-1])
        self._session.open_image(path, name, f"{{lab}}.load({escaped(repr(path))})", tag=tag)

    def _do_pick(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        self._session.open_from_set(int(content["index"]), tag=tag)

    def _do_posterior(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        seed = content.get("seed")
        self._session.draw_posterior(None if seed is None else int(seed), tag=tag)

    def _do_reset(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        self._session.reset(tag=tag)

    def _do_undo(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        self._session.undo(tag)

    def _do_keep(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        item = self._lab.keep(plain_words(str(content.get("name") or "")) or None)
        self.reply(tag, {"key": item.key})

    def _do_take(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        self._session.take(str(content["key"]), tag=tag)

    def _do_remove(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        self._lab.shelf = [item for item in self._lab.shelf if item.key != content["key"]]
        self.reply(tag, {})

    def _do_rename(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        name = plain_words(str(content.get("name", "")))
        if not name:
            raise UserError("an empty name was given: write at least one letter.")
        self._lab.shelf = [item.renamed(name) if item.key == content["key"] else item for item in self._lab.shelf]
        self.reply(tag, {})

    def _do_code(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        self.reply(tag, {"text": self._lab.code})

    def _do_save(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        what = content.get("what")
        if what not in ("png", "latent", "shelf"):
            raise UserError(f"{what!r} is to be saved: it must be png, latent or shelf.")
        self._session.request(lambda: self.reply(tag, {}, [self._lab._file(what)]), tag)

    def _do_strip(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        steps = _between(int(content.get("steps", 9)), 2, 64)
        base = None
        if "axis" in content:
            base = self._session.state
            axis, low, high = str(content["axis"]), float(content["low"]), float(content["high"])
            space, z = self._session.require_space(), base.latent
            values = torch.linspace(low, high, steps).tolist()
            latents = torch.stack([space.move(z, axis, value) for value in values])
            recipes = [base.recipe.then(Move(axis, value)) for value in values]
            words = [f"{axis} = {value:.3g}" for value in values]
        else:
            a, b = (self._session.shelf.by_key(content[name]) for name in ("a", "b"))
            method = "lerp" if content.get("method") == "lerp" else "slerp"
            latents = interpolate(a.latent, b.latent, steps, method)
            values = torch.linspace(0, 1, steps).tolist()
            lines = [
                Line(f"z = {method}({{0}}.latent, {{1}}.latent, {t!r})", (a.key, b.key), (method,)) for t in values
            ]
            recipes = [sheets.one_line(line) for line in lines]
            words = [f"{t:.2f} of the way from {a.name} to {b.name}" for t in values]
        sender = self._sheet_sender("strip", tag, words)
        self._sheets.draw("strip", latents, None, recipes, words, sender, tag, base=base)

    def _do_prior(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        n, seed = _between(int(content.get("n", 12)), 1, 64), int(content.get("seed", 0))
        latents, indices, lines = sheets.draw_prior(self._session, str(content.get("source", "prior")), n, seed)
        words = [f"sample {i + 1} of seed {seed}" for i in range(n)]
        recipes = [sheets.one_line(line) for line in lines]
        self._sheets.draw("prior", latents, indices, recipes, words, self._sheet_sender("prior", tag, words), tag)

    def _do_manifold(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        side = _between(int(content.get("n", 9)), 2, 15)
        axes = [content["x"], content["y"]]
        latents = sheets.plane(self._session, axes, content["ranges"], side)
        blank = [self._session.state.recipe] * len(latents)
        self._sheets.draw(
            "manifold", latents, None, blank, [""] * len(latents), self._sheet_sender("manifold", tag, []), tag
        )

    def _do_palette(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        y, x, stage = (int(content[name]) for name in ("y", "x", "stage"))
        codes = sheets.palette(self._session, y, x, stage, str(content.get("order", "near")))
        latents, indices, crop = sheets.code_patches(self._session, y, x, stage, codes)
        words = [f"code {code}" for code in codes]
        blank = [self._session.state.recipe] * len(codes)
        sender = self._sheet_sender("palette", tag, words, codes=codes)
        self._sheets.draw("palette", latents, indices, blank, words, sender, tag, crop)

    def _do_adopt(self, content: dict[str, Any], buffers: Sequence[Any], tag: Any) -> None:
        if content["sheet"] not in ("strip", "prior"):
            raise UserError(f"pictures of {content['sheet']!r} cannot be taken: only those of a strip or of samples.")
        self._sheets.adopt(str(content["sheet"]), int(content["index"]), tag)

    # --- to the front end ---

    def reply(self, tag: Any, content: dict[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Answer a request."""
        self._send({"kind": "reply", **(tag or {}), **content}, buffers)

    def dropped(self, tag: Any) -> None:
        """Tell the one who asked that no answer will come."""
        if tag is not None:
            self._send({"kind": "dropped", **tag})

    def fail(self, error: Exception) -> None:
        """Say what went wrong in one sentence."""
        self._send({"kind": "error", "text": sentence(error)})

    def send_frame(self, frame: Frame, rgba: np.ndarray) -> None:
        """Show a picture, and the coordinates of what it is decoded from."""
        state, session = frame.state, self._session
        content = {"kind": "frame", **(frame.tag or {}), "preview": frame.preview, "facts": session.facts(frame)}
        content["size"] = [rgba.shape[1], rgba.shape[0]]
        content["format"], pixels = self._pixels(rgba, frame.preview)
        buffers = [pixels]
        if session.space is not None:
            content["coordinates"] = session.space.coordinates(state.latent).tolist()
        content["gesture"] = session.gesture
        if state.original is not self._original_sent:
            self._original_sent = state.original
            content["original"] = "none"
            if state.original is not None:
                original = to_rgba(state.original[None])[0]
                content["original"], data = self._pixels(original, False)
                content["original_size"] = [original.shape[1], original.shape[0]]
                buffers.append(data)
        if not session.codec.flat and not frame.preview:
            content["grid"] = len(buffers)
            buffers.append(state.latent.contiguous().numpy().tobytes())
        if frame.tokens is not None:
            content["tokens"] = len(buffers)
            buffers.append(frame.tokens.to(torch.int32).contiguous().numpy().tobytes())
        if self._full_segments and (missing := FULL_SEGMENT - sum(map(len, buffers))) > 0:
            buffers.append(bytes(missing))
        self._send(content, buffers)

    def picture(self, frame: Frame, rgba: np.ndarray, original: np.ndarray | None) -> dict[str, Any]:
        """The last picture for views that open later, with or without a kernel."""
        space = self._session.space
        picture = {
            "facts": self._session.facts(frame),
            "decoded": png(rgba),
            "original": b"" if original is None else png(original),
            "coordinates": [] if space is None else space.coordinates(frame.state.latent).tolist(),
        }
        if not self._session.codec.flat:
            picture["grid"] = frame.state.latent.contiguous().numpy().tobytes()
        if frame.tokens is not None:
            picture["tokens"] = frame.tokens.to(torch.int32).contiguous().numpy().tobytes()
        return picture

    def surveying(self, seen: int, total: int) -> None:
        """Tell how many images are encoded."""
        self._lab._progress = [seen, total]

    def surveyed(self, space: LatentSpace) -> None:
        """Tell what the images say of the space."""
        lab, session = self._lab, self._session
        lab._points = space.points.float().numpy().tobytes()
        lab._space = {
            "axes": [
                {"key": a.key, "group": a.group, "detail": a.detail, "low": a.low, "high": a.high}
                for a in space.axes.values()
            ],
            "images": len(space.means),
            "rows": space.rows,
            "coordinates": space.coordinates(session.state.latent).tolist(),
        }
        lab._progress = [len(space.means), len(space.means)]
        rows = space.rows[:THUMBNAILS]
        pictures = [thumbnail(to_rgba(session.images[i][None])[0], 64) for i in rows]
        height, width = pictures[0].shape[:2]
        sheet = np.concatenate(pictures, axis=1)
        lab._thumbnails = {
            "size": [width, height],
            "rows": rows,
            "png": png(sheet),
            "names": [plain_words(session.images.describe(i)) for i in rows],
        }

    def show_shelf(self, shelf: Shelf) -> None:
        """Show the saved latents; pictures of new ones are made in the lab's thread."""
        with self._shelf_lock:
            known = {item["key"]: item["png"] for item in self._lab._shelf}
            self._lab._shelf = [_shelf_entry(item, known.get(item.key, b"")) for item in shelf]
        if any(item.key not in known for item in shelf):
            self._session.worker.background(self._draw_shelf(shelf), soon=True)

    def _draw_shelf(self, shelf: Shelf) -> Iterator[None]:
        for item in shelf:
            if all(entry["key"] != item.key or entry["png"] for entry in self._lab._shelf):
                continue
            picture = png(sheets.small_picture(self._session, item.latent, item.indices, SHELF_SIDE))
            with self._shelf_lock:  # what has come or gone meanwhile stays so
                entries = self._lab._shelf
                self._lab._shelf = [{**e, "png": picture} if e["key"] == item.key else e for e in entries]
            yield

    def own_name(self) -> str:
        """The name of the variable that holds the lab in the notebook."""
        try:
            from IPython import get_ipython

            names = get_ipython().user_ns
        except (ImportError, AttributeError):
            return "lab"
        found = [name for name, value in list(names.items()) if value is self._lab and not name.startswith("_")]
        return found[0] if found else "lab"

    def _sheet_sender(self, name: str, tag: Any, words: Sequence[str], **more: Any) -> Any:
        def send(first: int, total: int, pictures: Sequence[np.ndarray], number: int) -> None:
            height, width = pictures[0].shape[:2]
            content = {
                "kind": "sheet",
                "sheet": name,
                "number": number,
                "first": first,
                "count": len(pictures),
                "total": total,
                "size": [width, height],
                "words": list(words),
                **tag,
                **more,
            }
            self._send(content, [join(pictures)])

        return send

    def _pixels(self, rgba: np.ndarray, preview: bool) -> tuple[str, bytes]:
        if rgba.shape[0] * rgba.shape[1] <= RAW_PIXELS:
            return "rgba", rgba.tobytes()
        return ("jpeg", jpeg(rgba)) if preview and (rgba[..., 3] == 255).all() else ("png", png(rgba, 1))

    def _send(self, content: dict[str, Any], buffers: Sequence[bytes] = ()) -> None:
        if self._lab.comm is not None:
            self._lab.send(content, list(buffers))


def sentence(error: BaseException) -> str:
    """An exception as one sentence for a person."""
    words = plain_words(str(error).split("\n")[0])
    if isinstance(error, KeyError):
        words = words.strip("'\"")
    if isinstance(error, UserError) and words:
        return words
    return f"{type(error).__name__}: {words or 'no reason was given'}"


def _shelf_entry(item: Any, picture: bytes) -> dict[str, Any]:
    return {"key": item.key, "name": item.name, "norm": round(item.latent.norm().item(), 3), "png": picture}


def _json_number(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


def _between(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))
