"""What `evaluate` measures of latents beyond reconstruction: known factors, continuity and completeness."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import Dataset

from ..autoencoders import Adapter
from ..datasets import Factors, find_factors
from ..metrics import Evaluation, FactorScores, Regularity
from ..metrics.disentanglement.heat_map import heat_map, most_telling
from ..metrics.factor_scores import INFORMATION
from ..notices import say, show
from ..options import GIVEN, option
from ..options.weighted import weights_of
from ..pictures import save_png, stacked

TELLING = 0.05  # part of a factor that a latent tells, from which on it is in the table


@dataclass
class LatentQuality:
    """Options of what is measured of latents."""

    factors: bool = option(
        False,
        "Also score how well each latent stands for one factor of generated circles: MIG, SAP, DCI, modularity and the "
        "scores of FactorVAE and beta-VAE. 10,000 images are usual (--max_images).",
        when={"circles": (True,)},
        since="0.2",
    )
    factor_columns: tuple[str, ...] | None = option(
        None,
        "Score the latents so on the factors in these columns of the data, or of the metadata.csv beside image files.",
        when={"circles": (False,)},
        since="0.2",
    )
    factor_periods: tuple[str, ...] | None = option(
        None,
        "After how much the values of periodic factor columns repeat, as in angle=360; a name alone repeats after 1.",
        weighted="period",
        when={"factor_columns": GIVEN},
        since="0.2",
    )
    factor_picture: str | None = option(
        None,
        "Draw what each latent tells of each factor into this PNG file.",
        path=True,
        when={"scores_factors": (True,)},
        since="0.2",
    )
    regularity: bool = option(
        False,
        "Also measure continuity (how evenly decoded images change between two latents) and completeness (whether "
        "samples of the prior are like the images).",
        since="0.2",
    )

    @property
    def scores_factors(self) -> bool:
        """Whether the latents are scored on factors."""
        return self.factors or bool(self.factor_columns)


class MeasuredLatents:
    """What is measured of the latents of each model.

    Args:
        options: that ask for it.
        images: that the models are measured on.
        seed: of what is drawn.

    Raises:
        DataError: if the factors of the images are not known.
    """

    def __init__(self, options: LatentQuality, images: Dataset, seed: int) -> None:
        self._options, self._seed = options, seed
        self._factors: Factors | None = None
        self._measures: list[FactorScores | Regularity] = []
        if options.scores_factors:
            periods = weights_of(options.factor_periods or ())
            self._factors = find_factors(images, options.factor_columns or (), periods)

    def measures(self, adapter: Adapter) -> list[FactorScores | Regularity]:
        """Those of one model."""
        measures: list[FactorScores | Regularity] = []
        if self._factors is not None:
            measures.append(FactorScores(self._factors, self._seed))
        if self._options.regularity:
            measures.append(Regularity(adapter, self._seed))
        self._measures += measures
        return measures

    def report(self, evaluations: Mapping[str, Evaluation]) -> None:
        """Say what each latent tells of each factor and what could not be measured, and draw the picture."""
        for note in dict.fromkeys(note for measure in self._measures for note in measure.notes):
            say(note)
        found = {name: information for name, each in evaluations.items() if (information := _information(each))}
        for name, information in found.items():
            for line in table(information, name):
                show(line, sys.stderr)
        if self._options.factor_picture and found:
            path = Path(self._options.factor_picture)
            save_png(
                stacked([heat_map(*_matrix(each), f"{name}: I(z; v) / H(v)") for name, each in found.items()]), path
            )
            say(f"what each latent tells of each factor is drawn in {path}.")


def table(information: Mapping[str, list[float]], model: str) -> list[str]:
    """Lines of text: the part of each factor that each latent tells, of the 64 that tell most and those that tell any.

    Args:
        information: factor -> part of it that each latent tells.
        model: its name.
    """
    matrix, _ = _matrix(information)
    latents = (matrix.max(1).values > TELLING).nonzero().flatten().tolist()
    shown = [row for row in most_telling(matrix).tolist() if row in set(latents)]
    width = max(8, *(len(name) + 2 for name in information))
    lines = [f"part of each factor that a latent of {model} tells, I(z; v) / H(v):"]
    lines.append(f"{'latent':>8}" + "".join(f"{name:>{width}}" for name in information))
    for row in shown:
        lines.append(f"{f'z{row}':>8}" + "".join(f"{parts[row]:>{width}.2f}" for parts in information.values()))
    if others := len(latents) - len(shown):
        lines.append(f"{others} further latent(s) tell less of their best factor than these.")
    if silent := len(matrix) - len(latents):
        lines.append(f"{silent} further latent(s) tell less than {TELLING} of each.")
    return lines


def _information(evaluation: Evaluation) -> dict[str, list[float]]:
    """Factor -> part of it that each latent tells."""
    lists = evaluation.per_channel.items()
    return {name.removeprefix(INFORMATION): values for name, values in lists if name.startswith(INFORMATION)}


def _matrix(information: Mapping[str, list[float]]) -> tuple[torch.Tensor, list[str]]:
    return torch.tensor(list(information.values())).T, list(information)
