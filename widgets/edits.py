"""Edits of the latent: pure functions from one state to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from vae_plugin.errors import UserError
from vae_plugin.widgets.arithmetic import combine
from vae_plugin.widgets.codec import Codec
from vae_plugin.widgets.messages import fields
from vae_plugin.widgets.model_code import encoding
from vae_plugin.widgets.operands import Operands
from vae_plugin.widgets.recipe import ChosenCode, Copy, Line, Operand, Paint, Recipe, given
from vae_plugin.widgets.state import State, given_state
from vae_plugin.widgets.survey import Survey
from vae_plugin.wording import shown

Cell = tuple[int, int, float]


class Edits:
    """Everything that can be done to a latent. Each method takes the present state and returns the next one.

    Args:
        codec: the model.
        survey: what the lab's images say of the latent space.
        operands: finds the latents to calculate with.
    """

    def __init__(self, codec: Codec, survey: Survey, operands: Operands) -> None:
        self._codec = codec
        self._survey = survey
        self._operands = operands

    def edit(self, state: State, edits: Sequence[Mapping[str, Any]]) -> State:
        """Apply edits in order: fields of `move`, {"paint": those of `paint`} or {"code": those of `choose_code`}."""
        for edit in edits:
            if "axis" in edit:
                state = self.move(state, **fields(edit, self.move, "an edit along an axis"))
            elif "paint" in edit:
                state = self.paint(state, **fields(edit["paint"], self.paint, "paint"))
            elif "code" in edit:
                state = self.choose_code(state, **fields(edit["code"], self.choose_code, "the choice of a code"))
            else:
                raise UserError(f"an edit has only {shown(list(edit))}: it needs axis, paint or code.")
        return state

    def move(self, state: State, *, axis: str, value: float) -> State:
        """Move the latent along an axis until its coordinate is `value`."""
        return state.edit(self._survey.require_space().step(axis, float(value)))

    def paint(
        self,
        state: State,
        *,
        cells: list[Cell],
        channel: int | None = None,
        amount: float | None = None,
        from_: str | None = None,
    ) -> State:
        """Change single positions of the latent grid; those outside it are left out.

        Args:
            state: what to change.
            cells: [y, x, weight] of each position.
            channel: channel to add to.
            amount: what to add to it, times the weight.
            from_: key of the latent whose channels are all copied instead, or "mean".
        """
        _, height, width = state.latent.shape
        inside = [(y, x, float(weight)) for y, x, weight in cells if 0 <= y < height and 0 <= x < width]
        if from_ is not None:
            from_mean = from_ == "mean"
            latent = self._survey.require_space().mean if from_mean else self._operands.by_key(from_).latent
            return state.edit(Copy({(y, x): latent[:, y, x].clone() for y, x, _ in inside})) if inside else state
        if channel is None or amount is None:
            raise UserError("paint has neither a latent to copy from nor a channel and an amount: give one of them.")
        if not 0 <= channel < len(state.latent):
            raise UserError(f"there is no channel {channel}: the latent has channels 0 to {len(state.latent) - 1}.")
        added: dict[tuple[int, int], float] = {}
        for y, x, weight in inside:
            added[(y, x)] = added.get((y, x), 0.0) + weight * amount
        return state.edit(Paint(channel, added)) if added else state

    def choose_code(self, state: State, *, y: int, x: int, stage: int, code: int) -> State:
        """Replace the code at one position. From then on the indices are decoded, without quantising again.

        Args:
            state: what to change.
            y: row of the position.
            x: column of the position.
            stage: which of several codes at the position.
            code: index of the new one.
        """
        indices = present_indices(self._codec, state).clone()
        check_position(indices, y, x, stage)
        size = self._codec.model.codebook_size
        if not 0 <= code < size:
            raise UserError(f"there is no code {code}: the codebook has 0 to {size - 1}.")
        indices[y, x, stage] = code
        step = ChosenCode(y, x, stage if indices.shape[-1] > 1 else -1, code)
        recipe = state.recipe.then(step)
        return replace(state, latent=self._codec.codes(indices), indices=indices, recipe=recipe, edited=True)

    def combine(self, state: State, operation: Mapping[str, Any], start: State) -> State:
        """Calculate with latents, saved ones or those of images.

        Args:
            state: the present one.
            operation: see `arithmetic.combine`; also {"op": "attribute", "label", "value", "strength"}, for the
                direction of a label of the images.
            start: the state in which the drag began; an attribute is added to its latent.
        """
        if operation.get("op") == "attribute":
            if "label" in operation:
                given = fields(operation, self._label_attribute, "an attribute")
                latent, line = self._label_attribute(start.latent, **given)
            else:
                latent, line = combine(operation, self._operands, start.latent)
            return start.replace_latent(latent, line)
        latent, line = combine(operation, self._operands, state.latent)
        return State(latent, name=operation["op"], recipe=Recipe((line,)), edited=True)

    def _label_attribute(
        self, base: torch.Tensor, *, label: str, value: str | None = None, strength: float = 1.0
    ) -> tuple[torch.Tensor, Line]:
        group, strength = self._survey.group, float(strength)
        direction = group(label, value).mean(0) - group(label, value, inside=False).mean(0)
        name = f"attribute {label}" if value is None else f"attribute {label} {value}"
        return base + strength * direction, Line(f"z = z + {strength!r} * {{0}}", (Operand(name, direction),))

    def sample_posterior(self, state: State, seed: int | None) -> State:
        """Draw a sample of the encoded image's posterior; with `seed=None` take its mean."""
        encoded = state.encoded
        if encoded is None:
            raise UserError("there is no image whose posterior could be sampled: encode one first.")
        if seed is not None and encoded.std is None:
            raise UserError("the posterior of this model is a single point: there is nothing to sample.")
        latent = encoded.mean if seed is None else encoded.sample(seed)
        recipe = encoding(self._codec, state.name, state.source, latent, seed)
        return replace(state, latent=latent, indices=None, seed=seed, recipe=recipe, edited=False)

    def reset(self, state: State) -> State:
        """Return to the encoder's latent; without an image, to the mean over the lab's images."""
        if state.encoded is not None:
            return self.sample_posterior(state, state.seed)
        mean = self._survey.require_space().mean.clone()
        return given_state(mean, "mean of the data", given("mean of the data", mean))

    def take(self, key: str) -> State:
        """The state of a saved latent."""
        item = self._operands.by_key(key)
        return given_state(item.latent, item.name, item.recipe, item.indices)


def present_indices(codec: Codec, state: State) -> torch.Tensor:
    """The indices (h, w, indices per position) that a state is decoded from.

    Raises:
        UserError: if the model has no codebook.
    """
    if not codec.discrete:
        raise UserError("this model has no codebook: codes can be chosen only with a vector-quantised model.")
    return codec.indices(state.latent) if state.indices is None else state.indices


def check_position(indices: torch.Tensor, y: int, x: int, stage: int) -> None:
    """Refuse a position or a stage that indices (h, w, indices per position) do not have.

    Raises:
        UserError: that says which they have.
    """
    height, width, stages = indices.shape
    if not (0 <= y < height and 0 <= x < width and 0 <= stage < stages):
        raise UserError(
            f"there is no position ({y}, {x}) with stage {stage}: the grid has {height}x{width} positions of {stages} "
            "stage(s), counted from 0."
        )
