"""What the front end shows, as the messages and synced state that carry it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from vae_plugin.widgets.codec import Codec, to_rgba
from vae_plugin.widgets.image_set import ImageSet
from vae_plugin.widgets.outlet import Outlet, plain_words, sendable
from vae_plugin.widgets.pictures import join, jpeg, png, thumbnail
from vae_plugin.widgets.rendering import Frame
from vae_plugin.widgets.session import Session
from vae_plugin.widgets.sheets import SheetPart
from vae_plugin.widgets.space import LatentSpace
from vae_plugin.widgets.state import State
from vae_plugin.widgets.uploads import MAX_UPLOAD, PIECE

RAW_PIXELS = 256 * 256  # pictures up to this size travel uncompressed, larger ones as PNG
# The server's socket holds a small message back while an earlier one (the kernel's "busy") is not acknowledged, which
# takes the browser 40 ms (Nagle's algorithm and delayed acknowledgement). It never holds back a whole segment, which
# has 64 KB on the loopback: there, frames are filled up to one. A network's segments are small, and need no filling.
FULL_SEGMENT = 66_000  # bytes
THUMBNAILS = 256  # images with a small picture, at most
THUMBNAIL_SIDE = 64
THUMBNAIL_COLUMNS = 16  # of the sheet that they travel on


def model_info(codec: Codec, images: ImageSet) -> dict[str, Any]:
    """What does not change: the model in words and numbers, and the labels of the images."""
    model = codec.model
    return {
        "model": codec.adapter.class_name,
        "device": str(codec.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "image": [codec.channels, *codec.image_size],
        "latent": list(codec.latent_shape),
        "flat": codec.flat,
        "discrete": codec.discrete,
        "codes": model.codebook_size if codec.discrete else 0,
        "stages": codec.indices_per_position if codec.discrete else 0,
        "samples": codec.adapter.gaussian,
        "upload": {"most": MAX_UPLOAD, "piece": PIECE},
        "images": len(images),
        "names": list(images.names),
        "generated": images.generated,
        "labels": [
            sendable({"name": name, "names": labels.names, "values": [round(float(v), 6) for v in labels.values]})
            for name, labels in images.labels.items()
        ],
    }


class FrameView:
    """Decoded pictures, with the coordinates and the measurements that belong to them.

    Args:
        session: what is shown.
        outlet: the way to the front end.

    Attributes:
        fill_segments: whether to fill small messages up, see `FULL_SEGMENT`.
    """

    def __init__(self, session: Session, outlet: Outlet) -> None:
        self._session = session
        self._outlet = outlet
        self._reference: tuple[torch.Tensor | None, list[float]] = (None, [])
        self._original_sent: tuple[torch.Tensor | None, Sequence[int] | None] = (None, None)
        self.fill_segments = False

    def send(self, frame: Frame, rgba: np.ndarray) -> None:
        """Show a picture, and the coordinates of its latent."""
        state, session = frame.state, self._session
        content = {"kind": "frame", **(frame.tag or {}), "preview": frame.preview, "facts": frame.facts()}
        content["size"] = [rgba.shape[1], rgba.shape[0]]
        content["format"], pixels = _encoded_pixels(rgba, frame.preview)
        buffers = [pixels]
        if session.survey.space is not None:
            content["coordinates"] = session.survey.space.coordinates(state.latent).tolist()
            content["reference"] = self._encoders_coordinates(state)
        content["gesture"] = session.history.gesture
        bands = session.codec.shown.chosen
        if state.original is not self._original_sent[0] or bands != self._original_sent[1]:
            self._original_sent = (state.original, bands)
            content["original"] = "none"
            original = original_rgba(state, bands)
            if original is not None:
                content["original"], data = _encoded_pixels(original, False)
                content["original_size"] = [original.shape[1], original.shape[0]]
                buffers.append(data)
        if not session.codec.flat and not frame.preview:
            content["grid"] = len(buffers)
            buffers.append(_latent_bytes(state))
        if frame.indices is not None:
            content["indices"] = len(buffers)
            buffers.append(_index_bytes(frame.indices))
        if self.fill_segments and (missing := FULL_SEGMENT - sum(map(len, buffers))) > 0:
            buffers.append(bytes(missing))
        self._outlet.send(content, buffers)

    def publish(self, frame: Frame, rgba: np.ndarray) -> None:
        """Leave the last picture for views that open later, with or without a kernel."""
        state, space = frame.state, self._session.survey.space
        original = original_rgba(state, self._session.codec.shown.chosen)
        picture: dict[str, Any] = {
            "facts": frame.facts(),
            "decoded": png(rgba),
            "original": b"" if original is None else png(original),
            "coordinates": [] if space is None else space.coordinates(state.latent).tolist(),
            "reference": self._encoders_coordinates(state),
        }
        if not self._session.codec.flat:
            picture["grid"] = _latent_bytes(state)
        if frame.indices is not None:
            picture["indices"] = _index_bytes(frame.indices)
        self._outlet.publish(picture=picture)

    def _encoders_coordinates(self, state: State) -> list[float]:
        space, encoded = self._session.survey.space, state.encoded
        if space is None or encoded is None:
            return []
        if encoded.mean is not self._reference[0]:
            self._reference = (encoded.mean, encoders_coordinates(state, space))
        return self._reference[1]


def encoders_coordinates(state: State, space: LatentSpace) -> list[float]:
    """The coordinates of the posterior's mean; none for a latent that was not encoded."""
    return [] if state.encoded is None else space.coordinates(state.encoded.mean).tolist()


def publish_space(space: LatentSpace, session: Session, outlet: Outlet) -> None:
    """Show the axes and the map of the images that are encoded; their small pictures follow."""
    survey = session.survey
    outlet.publish(points=space.points.float().numpy().tobytes())
    outlet.publish(
        space={
            "axes": [
                {
                    "key": a.key,
                    "name": plain_words(a.name),
                    "group": a.group,
                    "detail": a.detail,
                    "low": a.low,
                    "high": a.high,
                }
                for a in space.axes.values()
            ],
            "images": len(space.means),
            "rows": space.rows,
            "total": len(session.images),
            "complete": survey.complete,
            "coordinates": space.coordinates(session.state.latent).tolist(),
            "reference": encoders_coordinates(session.state, space),
        }
    )
    if survey.complete:
        outlet.publish(progress=[survey.count, survey.count])
    session.worker.background(thumbnail_steps(space, session, outlet), soon=True)


def thumbnail_steps(space: LatentSpace, session: Session, outlet: Outlet) -> Iterator[None]:
    """Show small pictures of the images: soon those of the first, then all, evenly spread over the images."""
    every = max(1, -(-len(space.rows) // THUMBNAILS))
    rows = space.rows[::every]
    pictures: list[np.ndarray] = []
    for i in rows:
        pictures.append(thumbnail(session.codec.to_rgba(session.images[i][None])[0], THUMBNAIL_SIDE))
        if len(pictures) in (THUMBNAIL_COLUMNS, len(rows)):
            _publish_thumbnails(pictures, rows[: len(pictures)], session, outlet)
        yield


def _publish_thumbnails(pictures: Sequence[np.ndarray], rows: Sequence[int], session: Session, outlet: Outlet) -> None:
    height, width = pictures[0].shape[:2]
    columns = min(THUMBNAIL_COLUMNS, len(pictures))
    sheet = np.zeros((-(-len(pictures) // columns) * height, columns * width, 4), np.uint8)
    for at, picture in enumerate(pictures):
        top, left = at // columns * height, at % columns * width
        sheet[top : top + height, left : left + width] = picture
    outlet.publish(
        thumbnails={
            "size": [width, height],
            "columns": columns,
            "rows": list(rows),
            "png": png(sheet),
            "names": [plain_words(session.images.describe(i)) for i in rows],
        }
    )


def send_sheet(name: str, part: SheetPart, tag: dict[str, Any], outlet: Outlet) -> None:
    """Show some pictures of a sheet."""
    height, width = part.pictures[0].shape[:2]
    content = {
        "kind": "sheet",
        "sheet": name,
        "number": part.number,
        "first": part.first,
        "count": len(part.pictures),
        "total": len(part.sheet.latents),
        "size": [width, height],
        "words": list(part.sheet.words),
        **tag,
        **part.sheet.details,
    }
    outlet.send(content, [join(part.pictures)])


def original_rgba(state: State, bands: Sequence[int] | None = None) -> np.ndarray | None:
    """The picture (H, W, 4) of the image that a state was encoded from, of the bands that are shown."""
    return None if state.original is None else to_rgba(state.original[None], bands)[0]


def _encoded_pixels(rgba: np.ndarray, preview: bool) -> tuple[str, bytes]:
    """The format in which a picture travels, and its bytes."""
    if rgba.shape[0] * rgba.shape[1] <= RAW_PIXELS:
        return "rgba", rgba.tobytes()
    return ("jpeg", jpeg(rgba)) if preview and (rgba[..., 3] == 255).all() else ("png", png(rgba, 1))


def _latent_bytes(state: State) -> bytes:
    return state.latent.contiguous().numpy().tobytes()


def _index_bytes(indices: torch.Tensor) -> bytes:
    return indices.to(torch.int32).contiguous().numpy().tobytes()
