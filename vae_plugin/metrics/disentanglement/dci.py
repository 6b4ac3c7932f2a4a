"""Disentanglement, completeness and informativeness (DCI)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from ...arguments import Whole, accepts
from ...models.exact import exact
from .columns import CODES, FACTORS, categories, check_columns, is_constant, kinds_of, targets, train_and_test
from .learners import boosted_trees


class DCI(NamedTuple):
    """The three scores, each the larger the better, see `dci`.

    Attributes:
        disentanglement: in [0, 1]; 1 where each latent is of use for one factor only.
        completeness: in [0, 1]; 1 where for each factor one latent only is of use.
        informativeness: at most 1; how well the factors are predicted from all latents.
    """

    disentanglement: float
    completeness: float
    informativeness: float


@accepts(codes=CODES, factors=FACTORS, seed=Whole())
def dci(codes: torch.Tensor, factors: torch.Tensor, kinds: Sequence[str] | None = None, seed: int = 0) -> DCI:
    """DCI (Eastwood & Williams 2018, "A Framework for the Quantitative Evaluation of Disentangled Representations").

    Gradient-boosted trees (100 of depth 3, scikit-learn's defaults, as in disentanglement_lib) learn each factor from
    all latents on two thirds of the images. Their importances R (D, F), by the impurity that a latent removes, sum to 1
    for each factor, and

    - disentanglement is sum_d rho_d (1 - H_F(R_d)): the entropy of a row, normalised, to the base F, and the weight
      rho_d of a latent is its share of all importance;
    - completeness is the mean over factors of 1 - H_D(R_f), the entropy of a column to the base D;
    - informativeness is the mean over factors of R^2 on the other third, of categories the accuracy there. The paper
      gives an error instead, the root of 1 - R^2.

    A periodic factor is learnt as its cos and sin, whose importances and R^2 are averaged: two latents that are these
    keep disentanglement 1, but its completeness falls to 1 - log 2 / log D. With one latent or one factor the entropies
    are of one value, and the score is 1. Needs scikit-learn, the extra `factors`.

    Args:
        codes: latents of N images, (N, D).
        factors: of the same images, (N, F).
        kinds: see `information`.
        seed: of the images that are held out.

    Raises:
        ValueError: if a value is not finite, or a factor does not vary.
        UserError: without scikit-learn.
    """
    check_columns(codes, factors)
    kinds = kinds_of(factors, kinds)
    learnt = [_learn(codes, column, kind, seed) for column, kind in zip(factors.T, kinds, strict=True)]
    importance = np.stack([importances for importances, _ in learnt], 1)
    weights = importance.sum(1) / max(importance.sum(), 1e-300)
    return DCI(
        disentanglement=float((weights * (1 - _entropies(importance))).sum()),
        completeness=float((1 - _entropies(importance.T)).mean()),
        informativeness=float(np.mean([score for _, score in learnt])),
    )


def _learn(codes: torch.Tensor, column: torch.Tensor, kind: str, seed: int) -> tuple[np.ndarray, float]:
    """The importance (D,) of each latent for one factor, and how well it is predicted."""
    train, test = train_and_test(len(codes), seed)
    if not len(test) or is_constant(column[train]) or is_constant(column[test]):
        raise ValueError(
            f"{len(codes)} image(s) are too few to learn a factor from two thirds and test it on the rest."
        )
    z = exact(codes).numpy()
    importances, scores = [], []
    for target in [categories(column)] if kind == "categorical" else targets(column, kind):
        model = boosted_trees(kind == "categorical").fit(z[train], target[train].numpy())
        importances.append(model.feature_importances_)
        scores.append(model.score(z[test], target[test].numpy()))
    return np.mean(importances, 0), float(np.mean(scores))


def _entropies(rows: np.ndarray) -> np.ndarray:
    """Entropy of each row (R, C) after it is normalised to 1, to the base C: (R,) in [0, 1]."""
    if rows.shape[1] == 1:
        return np.zeros(len(rows))
    p = rows / np.maximum(rows.sum(1, keepdims=True), 1e-300)
    return -(p * np.log(np.where(p > 0, p, 1))).sum(1) / np.log(rows.shape[1])
