"""What sheets show: walks, samples of the prior, planes of the latent space, the codes of a codebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from vae_plugin.widgets.arithmetic import on_path
from vae_plugin.widgets.codec import Codec
from vae_plugin.widgets.edits import Edits, check_position, present_indices
from vae_plugin.widgets.recipe import Line, Recipe, given
from vae_plugin.widgets.sheets import Sheet
from vae_plugin.widgets.shelf import Saved
from vae_plugin.widgets.space import LatentSpace
from vae_plugin.widgets.state import State
from vae_plugin.widgets.survey import Survey

PALETTE = 96  # codes that are shown at once
CANDIDATES = 65_536  # codes among which the nearest are searched
CONTEXT = 3  # positions around a code that are decoded with it
SHOWN = 1  # positions around a code that its picture shows


def along_axis(space: LatentSpace, state: State, axis: str, low: float, high: float, steps: int) -> Sheet:
    """A walk along one axis, from coordinate `low` to `high`."""
    values = torch.linspace(low, high, steps).tolist()
    states = [state.edit(space.step(axis, value)) for value in values]
    return Sheet(
        torch.stack([one.latent for one in states]),
        recipes=[one.recipe for one in states],
        words=[f"{axis} = {value:.3g}" for value in values],
        base=state,
    )


def along_axes(space: LatentSpace, state: State, axes: Sequence[str], steps: int) -> Sheet:
    """A walk along each of some axes, one after the other, over the ranges that their sliders show."""
    walks = [along_axis(space, state, key, *space.ends(key), steps) for key in axes]
    return Sheet(
        torch.cat([walk.latents for walk in walks]),
        recipes=[recipe for walk in walks for recipe in walk.recipes],
        words=[words for walk in walks for words in walk.words],
        base=state,
        details={"axes": list(axes)},
    )


def results(edits: Edits, state: State, operations: Sequence[Mapping[str, Any]], start: State) -> Sheet:
    """What operations on latents would give, see `Edits.combine`."""
    states = [edits.combine(state, operation, start) for operation in operations]
    return Sheet(torch.stack([state.latent for state in states]))


def between(a: Saved, b: Saved, method: Literal["slerp", "lerp"], steps: int) -> Sheet:
    """A walk from one latent to another."""
    values = torch.linspace(0, 1, steps).tolist()
    path = [on_path(a, b, method, t) for t in values]
    return Sheet(
        torch.stack([latent for latent, _ in path]),
        recipes=[Recipe((line,)) for _, line in path],
        words=[f"{t:.2f} of the way from {a.name} to {b.name}" for t in values],
    )


def draw_samples(codec: Codec, survey: Survey, source: Literal["prior", "data"], n: int, seed: int) -> Sheet:
    """Samples of a distribution over latents.

    Args:
        codec: the model.
        survey: what the images say of the latent space.
        source: "prior", N(0, I) or uniform over a codebook; "data", a Gaussian fitted to the latents of the images.
        n: number of samples.
        seed: seed of the generator.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = tuple(codec.latent_shape)
    seeded = f"generator=torch.Generator().manual_seed({seed})"
    words = [f"sample {i + 1} of seed {seed}" for i in range(n)]
    if source == "data":
        latents = survey.require_space().sample(n, generator)
        return Sheet(latents, None, [given(name, z) for name, z in zip(words, latents, strict=True)], words)
    if not codec.discrete:
        text = f"z = torch.randn({n}, {', '.join(map(str, shape))}, {seeded})"
        recipes = [Recipe((Line(f"{text}[{i}]"),)) for i in range(n)]
        return Sheet(torch.randn(n, *shape, generator=generator, dtype=torch.float32), None, recipes, words)
    size = (n, *shape[1:], codec.indices_per_position)
    indices = torch.randint(codec.model.codebook_size, size, generator=generator)
    text = f"ids = torch.randint({codec.model.codebook_size}, {size}, {seeded})"
    tail = "" if codec.indices_per_position > 1 else "[..., 0]"
    recipes = [Recipe((Line(f"{text}[{i}]{tail}", ids=True),)) for i in range(n)]
    return Sheet(torch.stack([codec.codes(one) for one in indices]), indices, recipes, words)


def plane(
    space: LatentSpace,
    z: torch.Tensor,
    axes: Sequence[str],
    ranges: Sequence[Sequence[float]],
    columns: int,
    rows: int,
) -> Sheet:
    """A plane through a latent, row by row from the upper left.

    Args:
        space: where the axes are from.
        z: the latent (C, h, w).
        axes: the horizontal and the vertical axis.
        ranges: low and high coordinate of both.
        columns: pictures along the horizontal axis.
        rows: pictures along the vertical one.
    """
    (left, right), (bottom, top) = ranges
    xs = [left + (right - left) * (i + 0.5) / columns for i in range(columns)]
    ys = [top - (top - bottom) * (i + 0.5) / rows for i in range(rows)]
    return Sheet(
        torch.stack([space.move(space.move(z, axes[0], x), axes[1], y) for y in ys for x in xs]),
        details={"axes": list(axes), "ranges": [list(pair) for pair in ranges], "columns": columns},
    )


def palette(codec: Codec, state: State, y: int, x: int, stage: int, order: Literal["near", "number"]) -> Sheet:
    """Pictures of the codes to choose from at one position: each code in its place in the image.

    Args:
        codec: the model.
        state: the present state.
        y: row of the position.
        x: column of the position.
        stage: which of several codes at the position.
        order: "near", those nearest to the present code; or "number", the first ones.
    """
    present = present_indices(codec, state)
    check_position(present, y, x, stage)
    if order == "number":
        choices = list(range(min(codec.model.codebook_size, PALETTE)))
    else:
        choices = _nearest(codec, present, y, x, stage)
    (top, bottom), (left, right) = (
        (max(0, at - CONTEXT), min(size, at + CONTEXT + 1)) for at, size in zip((y, x), present.shape[:2], strict=True)
    )
    indices = present[top:bottom, left:right].expand(len(choices), -1, -1, -1).clone()
    indices[:, y - top, x - left, stage] = torch.tensor(choices)
    rows, columns = (
        slice(max(0, at - SHOWN) * codec.spatial_compression_ratio, (at + SHOWN + 1) * codec.spatial_compression_ratio)
        for at in (y - top, x - left)
    )
    return Sheet(
        torch.zeros(len(choices), codec.latent_shape[0], *indices.shape[1:3]),
        indices,
        words=[f"code {index}" for index in choices],
        crop=(rows, columns),
        details={"codes": choices},
    )


def _nearest(codec: Codec, present: torch.Tensor, y: int, x: int, stage: int) -> list[int]:
    """Indices of the codes nearest to the present one, itself first."""
    candidates = torch.arange(min(codec.model.codebook_size, CANDIDATES))
    index = int(present[y, x, stage])
    if index >= len(candidates):
        candidates = torch.cat([candidates, torch.tensor([index])])
    variants = present[y, x].expand(len(candidates), -1).clone()
    variants[:, stage] = candidates
    codes = codec.codes(variants[:, None]).flatten(1).T  # (candidates, C)
    here = codec.codes(present[y : y + 1, x : x + 1]).flatten()
    return candidates[(codes - here).norm(dim=1).argsort()[:PALETTE]].tolist()
