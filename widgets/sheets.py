"""Many small pictures at once: strips, samples of the prior, planes of the latent space, the codebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from .codec import to_rgba
from .pictures import thumbnail
from .recipe import Line, Recipe
from .session import Session, State

SIDE = 96  # pixels of a small picture, at most
BATCH = 8
PALETTE = 96  # codes that are shown at once
CANDIDATES = 65_536  # codes among which the nearest are looked for
CONTEXT = 3  # places around a code that are decoded with it
SHOWN = 1  # of these, those that its picture shows

Sender = Callable[[int, int, Sequence[np.ndarray], int], None]


class Sheets:
    """Sheets of small pictures, drawn in the background; a new one replaces that of the same name.

    Args:
        session: whose model decodes.
        dropped: called with the tag of a request whose sheet is not drawn to its end.
    """

    def __init__(self, session: Session, dropped: Callable[[Any], None]) -> None:
        self._session = session
        self._dropped = dropped
        self._content: dict[str, tuple[int, torch.Tensor, torch.Tensor | None, Sequence[Recipe], Sequence[str]]] = {}
        self._bases: dict[str, State | None] = {}
        self._number = 0

    def draw(
        self,
        name: str,
        latents: torch.Tensor,
        indices: torch.Tensor | None,
        recipes: Sequence[Recipe],
        words: Sequence[str],
        send: Sender,
        tag: Any,
        crop: tuple[slice, slice] | None = None,
        base: State | None = None,
    ) -> None:
        """Decode latents (N, C, h, w) bit by bit, and send the pictures.

        Args:
            name: of the sheet.
            latents: what to decode.
            indices: codes (N, h, w, codes per place) to decode instead, or None.
            recipes: how each latent comes to be.
            words: what to call each.
            send: called with the number of the first picture, that of all, the pictures, and the sheet's number.
            tag: of the request, which is told if nothing will come.
            crop: rows and columns of the pictures' pixels to keep.
            base: the state of which the latents are changes.
        """
        self._number += 1
        number = self._number
        self._content[name] = (number, latents, indices, recipes, words)
        self._bases[name] = base

        def steps() -> Iterator[None]:
            batch = BATCH if (self._session.codec.decode_seconds or 0.0) < 0.05 else 1
            for first in range(0, len(latents), batch):
                if self._content[name][0] != number:
                    self._dropped(tag)
                    return
                chosen = slice(first, first + batch)
                try:
                    some = None if indices is None else indices[chosen]
                    pictures = _small(self._session, latents[chosen], some, crop)
                except Exception:
                    self._dropped(tag)
                    raise
                send(first, len(latents), pictures, number)
                yield

        self._session.worker.background(steps(), soon=True)

    def adopt(self, name: str, i: int, tag: Any) -> None:
        """The latent becomes that of picture i of a sheet."""
        if name not in self._content or not 0 <= i < len(self._content[name][1]):
            raise UserError(f"there is no picture {i} in {name!r}: draw it first.")
        _, latents, indices, recipes, words = self._content[name]
        state = replace(
            self._bases[name] or State(latents[i], name=words[i]),
            latent=latents[i].clone(),
            indices=None if indices is None else indices[i],
            recipe=recipes[i],
            edited=True,
        )
        self._session.change(lambda _: state, tag=tag)


def one_line(line: Line) -> Recipe:
    """The recipe of a latent that one line makes."""
    return Recipe((line,))


def small_picture(session: Session, z: torch.Tensor, indices: torch.Tensor | None, side: int) -> np.ndarray:
    """A picture of one latent (C, h, w) of at most `side` pixels."""
    image = session.codec.decode(z[None], None if indices is None else indices[None])
    return thumbnail(to_rgba(image)[0], side)


def _small(
    session: Session, latents: torch.Tensor, indices: torch.Tensor | None, crop: tuple[slice, slice] | None
) -> list[np.ndarray]:
    codec = session.codec
    if crop is not None:
        return [np.ascontiguousarray(rgba[crop]) for rgba in to_rgba(codec.decode(latents, indices))]
    shrink = 1
    while max(codec.image_size) // (2 * shrink) >= SIDE and codec.preview_shrink > shrink:
        shrink *= 2
    if shrink > 1 and indices is None:
        latents = torch.nn.functional.avg_pool2d(latents, shrink)
    images = codec.decode(latents, indices)
    return [thumbnail(rgba, SIDE) for rgba in to_rgba(images)]


def draw_prior(
    session: Session, source: str, n: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor | None, list[Line]]:
    """Latents (n, C, h, w) of the prior or of a Gaussian of the data, codes of a uniform prior, and their Python.

    Args:
        session: whose model it is.
        source: "prior" or "data".
        n: how many.
        seed: of what is drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = tuple(session.codec.latent_shape)
    seeded = f"generator=torch.Generator().manual_seed({seed})"
    if source == "data":
        latents = session.require_space().sample(n, generator)
        return (
            latents,
            None,
            [Line(f"z = {{lab}}.space.sample({n}, torch.Generator().manual_seed({seed}))[{i}]") for i in range(n)],
        )
    if source != "prior":
        raise UserError(f"samples of {source!r} were asked for: they are of the 'prior' or of the 'data'.")
    if not session.codec.discrete:
        latents = torch.randn(n, *shape, generator=generator)
        return (
            latents,
            None,
            [Line(f"z = torch.randn({n}, {', '.join(map(str, shape))}, {seeded})[{i}]") for i in range(n)],
        )
    quantizer = session.codec.model.quantizer
    size = (n, *shape[1:], quantizer.codes_per_position)
    indices = torch.randint(quantizer.codebook_size, size, generator=generator)
    latents = torch.stack([session.codec.codes(one) for one in indices])
    native = "" if quantizer.codes_per_position > 1 else "[..., 0]"
    lines = [
        Line(f"ids = torch.randint({quantizer.codebook_size}, {size}, {seeded})[{i}]{native}", ids=True)
        for i in range(n)
    ]
    return latents, indices, lines


def plane(session: Session, axes: Sequence[str], ranges: Sequence[Sequence[float]], side: int) -> torch.Tensor:
    """Latents (side * side, C, h, w) of a plane through the current one, row by row from the upper left.

    Args:
        session: whose space it is.
        axes: the horizontal and the vertical one.
        ranges: low and high of both.
        side: how many along each.
    """
    space, z = session.require_space(), session.state.latent
    (left, right), (bottom, top) = ranges
    columns = [left + (right - left) * (i + 0.5) / side for i in range(side)]
    rows = [top - (top - bottom) * (i + 0.5) / side for i in range(side)]
    return torch.stack([space.move(space.move(z, axes[0], x), axes[1], y) for y in rows for x in columns])


def palette(session: Session, y: int, x: int, stage: int, order: str) -> list[int]:
    """The codes to choose from at a place: those nearest to the present one, or the first ones.

    Args:
        session: whose model it is.
        y: row of the place.
        x: column.
        stage: of several codes at a place, which.
        order: "near" or "number".
    """
    ids = _present_codes(session)
    size = session.codec.model.codebook_size
    if order == "number":
        return list(range(min(size, PALETTE)))
    present = int(ids[y, x, stage])
    candidates = torch.arange(min(size, CANDIDATES))
    if present >= len(candidates):
        candidates = torch.cat([candidates, torch.tensor([present])])
    variants = ids[y, x].expand(len(candidates), -1).clone()
    variants[:, stage] = candidates
    codes = session.codec.codes(variants[:, None]).flatten(1).T  # (candidates, C)
    here = session.codec.codes(ids[y : y + 1, x : x + 1]).flatten()
    nearest = (codes - here).norm(dim=1).argsort()[:PALETTE]
    return candidates[nearest].tolist()


def code_patches(
    session: Session, y: int, x: int, stage: int, codes: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor, tuple[slice, slice]]:
    """Codes as pictures: what each would be at a place of the present image.

    Returns:
        Latents (N, C, h, w) of the place's neighbourhood, its codes (N, h, w, codes per place) with each of `codes` at
        the place, and the rows and columns of pixels around that.
    """
    present = _present_codes(session)
    (top, bottom), (left, right) = (
        (max(0, at - CONTEXT), min(size, at + CONTEXT + 1)) for at, size in zip((y, x), present.shape[:2], strict=True)
    )
    indices = present[top:bottom, left:right].expand(len(codes), -1, -1, -1).clone()
    indices[:, y - top, x - left, stage] = torch.tensor(codes)
    factor = session.codec.factor
    crop = tuple(slice(max(0, at - SHOWN) * factor, (at + SHOWN + 1) * factor) for at in (y - top, x - left))
    return torch.zeros(len(codes), session.codec.latent_shape[0], *indices.shape[1:3]), indices, crop


def _present_codes(session: Session) -> torch.Tensor:
    if not session.codec.discrete:
        raise UserError("this model has no codes: only those of a vector-quantised one can be chosen.")
    state = session.state
    return session.codec.tokens(state.latent) if state.indices is None else state.indices
