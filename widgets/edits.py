"""Edits of the latent: pure functions from one state to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from vae_plugin.errors import UserError
from vae_plugin.widgets.arithmetic import combine
from vae_plugin.widgets.codec import Codec
from vae_plugin.widgets.model_code import encoding_line
from vae_plugin.widgets.recipe import ChosenCode, Line, Move, Paint, Recipe, escaped
from vae_plugin.widgets.shelf import ShelfKeeper
from vae_plugin.widgets.state import State, given_state
from vae_plugin.widgets.survey import Survey


class Edits:
    """Everything that can be done to a latent. Each method takes the present state and returns the next one.

    Args:
        codec: the model.
        survey: what the lab's images say of the latent space.
        keeper: owner of the saved latents.
    """

    def __init__(self, codec: Codec, survey: Survey, keeper: ShelfKeeper) -> None:
        self._codec = codec
        self._survey = survey
        self._keeper = keeper

    def edit(self, state: State, edits: Sequence[Mapping[str, Any]]) -> State:
        """Apply edits in order: {"axis", "value"}, {"paint": ...} or {"code": ...}; see the three methods."""
        for edit in edits:
            if "axis" in edit:
                state = self.move(state, str(edit["axis"]), float(edit["value"]))
            elif "paint" in edit:
                state = self.paint(state, edit["paint"])
            elif "code" in edit:
                state = self.choose_code(state, edit["code"])
            else:
                raise UserError(f"an edit has only {', '.join(edit)}: it needs axis, paint or code.")
        return state

    def move(self, state: State, axis: str, value: float) -> State:
        """Move the latent along an axis until its coordinate is `value`."""
        return state.edit(self._survey.require_space().move(state.latent, axis, value), Move(axis, value))

    def paint(self, state: State, paint: Mapping[str, Any]) -> State:
        """Change single positions of the latent grid.

        Args:
            state: what to change.
            paint: {"cells": [[y, x, weight]], "channel", "amount"} adds to one channel; {"cells", "from": key or
                "mean"} copies all channels of a saved latent or of the mean.
        """
        _, height, width = state.latent.shape
        cells = [(int(y), int(x), float(weight)) for y, x, weight in paint["cells"]]
        cells = [cell for cell in cells if 0 <= cell[0] < height and 0 <= cell[1] < width]
        z = state.latent.clone()
        source = paint.get("from")
        if source is not None:
            from_mean = source == "mean"
            latent = self._survey.require_space().mean if from_mean else self._keeper.shelf.by_key(source).latent
            for y, x, _ in cells:
                z[:, y, x] = latent[:, y, x]
            text, key = ("{lab}.space.mean", None) if from_mean else ("{0}.latent", source)
            return state.edit(z, Paint(None, {(y, x): 1.0 for y, x, _ in cells}, text, key))
        channel = int(paint["channel"])
        if not 0 <= channel < len(z):
            raise UserError(f"there is no channel {channel}: the latent has channels 0 to {len(z) - 1}.")
        added: dict[tuple[int, int], float] = {}
        for y, x, weight in cells:
            z[channel, y, x] += weight * float(paint["amount"])
            added[(y, x)] = added.get((y, x), 0.0) + weight * float(paint["amount"])
        return state.edit(z, Paint(channel, added))

    def choose_code(self, state: State, choice: Mapping[str, Any]) -> State:
        """Replace the code at one position. From then on the indices are decoded, without quantising again.

        Args:
            state: what to change.
            choice: {"y", "x", "stage", "code"}, where "code" is the index of the new code.
        """
        indices = present_indices(self._codec, state).clone()
        y, x, stage, index = (int(choice[name]) for name in ("y", "x", "stage", "code"))
        size = self._codec.model.codebook_size
        height, width, stages = indices.shape
        if not (0 <= index < size and 0 <= y < height and 0 <= x < width and 0 <= stage < stages):
            raise UserError(
                f"there is no code {index} at position ({y}, {x}), stage {stage}: the codebook has 0 to {size - 1}, "
                f"and the grid has {height}x{width} positions of {stages} stage(s)."
            )
        indices[y, x, stage] = index
        step = ChosenCode(y, x, stage if stages > 1 else -1, index)
        return replace(state.edit(self._codec.codes(indices), step), indices=indices)

    def combine(self, state: State, operation: Mapping[str, Any], start: State) -> State:
        """Calculate with saved latents.

        Args:
            state: the present one.
            operation: see `arithmetic.combine`; also {"op": "attribute", "label", "value", "strength"}, for the
                direction of a label of the images.
            start: the state in which the drag began; an attribute is added to its latent.
        """
        if operation.get("op") == "attribute":
            if "label" in operation:
                latent, line = self._label_attribute(operation, start.latent)
            else:
                latent, line = combine(operation, self._keeper.shelf, start.latent)
            return start.edit(latent, line)
        latent, line = combine(operation, self._keeper.shelf, state.latent)
        return State(latent, name=str(operation.get("op")), recipe=Recipe((line,)), edited=True)

    def _label_attribute(self, operation: Mapping[str, Any], base: torch.Tensor) -> tuple[torch.Tensor, Line]:
        name, value = str(operation["label"]), operation.get("value")
        strength = float(operation.get("strength", 1.0))
        group = self._survey.group
        direction = group(name, value).mean(0) - group(name, value, inside=False).mean(0)
        label = escaped(f"{name!r}, {value!r}")
        groups = ", ".join(f"{{lab}}.group({label}{tail})" for tail in ("", ", inside=False"))
        text = f"z = z + {strength!r} * attribute_vector({groups})"
        return base + strength * direction, Line(text, imports=("attribute_vector",))

    def sample_posterior(self, state: State, seed: int | None) -> State:
        """Draw a sample of the encoded image's posterior; with `seed=None` take its mean."""
        encoded = state.encoded
        if encoded is None:
            raise UserError("there is no image whose posterior could be sampled: encode one first.")
        if seed is not None and encoded.std is None:
            raise UserError("the posterior of this model is a single point: there is nothing to sample.")
        latent = encoded.mean if seed is None else encoded.sample(seed)
        recipe = Recipe((encoding_line(self._codec, state.source, seed),))
        return replace(state, latent=latent, indices=None, seed=seed, recipe=recipe, edited=False)

    def reset(self, state: State) -> State:
        """Return to the encoder's latent; without an image, to the mean over the lab's images."""
        if state.encoded is not None:
            return self.sample_posterior(state, state.seed)
        mean = self._survey.require_space().mean.clone()
        return given_state(mean, "mean of the data", Line("z = {lab}.space.mean.clone()"))

    def take(self, key: str) -> State:
        """The state of a saved latent."""
        item = self._keeper.shelf.by_key(key)
        if item.indices is None:
            line = Line("z = {0}.latent.clone()", (item.key,))
        else:
            native = "" if item.indices.shape[-1] > 1 else "[..., 0]"
            line = Line(f"ids = {{0}}.indices{native}.clone()", (item.key,), ids=True)
        return given_state(item.latent, item.name, line, item.indices)


def present_indices(codec: Codec, state: State) -> torch.Tensor:
    """The indices (h, w, indices per position) that a state is decoded from.

    Raises:
        UserError: if the model has no codebook.
    """
    if not codec.discrete:
        raise UserError("this model has no codebook: codes can be chosen only with a vector-quantised model.")
    return codec.indices(state.latent) if state.indices is None else state.indices
