"""The separated attribute predictability (SAP)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...arguments import Whole, accepts
from ...models.exact import exact
from .columns import CODES, FACTORS, categories, check_columns, is_constant, kinds_of, targets, train_and_test
from .learners import linear_svm


@accepts(codes=CODES, factors=FACTORS, seed=Whole())
def sap(codes: torch.Tensor, factors: torch.Tensor, kinds: Sequence[str] | None = None, seed: int = 0) -> float:
    """SAP score (Kumar et al. 2018, "Variational Inference of Disentangled Latent Concepts", section 3).

    The mean over factors of the difference between the two latents that predict it best, each alone by a linear model.
    What predicts is measured by

    - R^2, the squared correlation, of a continuous factor;
    - R^2 of the latent given the cos and sin of a periodic factor (Mardia 1976), which does not depend on where the
      period begins;
    - accuracy on the third of the images that was held out, of a linear SVM (C 0.01, balanced classes, as in
      disentanglement_lib), of a categorical one: it needs scikit-learn, the extra `factors`.

    Perfect codes score 1 on continuous factors, and less on categories, since the second best latent still guesses.
    The cos and sin of a periodic factor, as two latents, score 0: each has R^2 1. One latent that runs once around the
    circle has 6 / pi^2 = .61, because its seam is not linear.

    Args:
        codes: latents of N images, (N, D).
        factors: of the same images, (N, F).
        kinds: see `information`.
        seed: of the images that are held out.

    Returns:
        Between 0 and 1, the larger the better.

    Raises:
        ValueError: if a value is not finite, or a factor does not vary.
        UserError: for a categorical factor without scikit-learn.
    """
    check_columns(codes, factors)
    kinds = kinds_of(factors, kinds)
    scores = torch.stack([_scores(codes, column, kind, seed) for column, kind in zip(factors.T, kinds, strict=True)])
    best = scores.sort(dim=1, descending=True).values
    return float((best[:, 0] - best[:, 1] if codes.shape[1] > 1 else best[:, 0]).mean())


def _scores(codes: torch.Tensor, column: torch.Tensor, kind: str, seed: int) -> torch.Tensor:
    """How well each latent (N, D) predicts one factor, (D,) in [0, 1]."""
    if kind == "categorical":
        return _accuracies(codes, categories(column), seed)
    z = exact(codes)
    varies = torch.tensor([not is_constant(latent) for latent in codes.unbind(1)])
    z = z - z.mean(0)
    v = torch.stack(targets(exact(column), kind), 1)
    fitted = torch.linalg.lstsq(v - v.mean(0), z).solution
    explained = ((v - v.mean(0)) @ fitted).square().sum(0) / z.square().sum(0).clamp(min=1e-300)
    return torch.where(varies, explained.clamp(max=1), 0.0)


def _accuracies(codes: torch.Tensor, classes: torch.Tensor, seed: int) -> torch.Tensor:
    train, test = train_and_test(len(codes), seed)
    if is_constant(classes[train]) or not len(test):
        raise ValueError(f"{len(codes)} image(s) are too few to learn the categories of a factor from two thirds.")
    found = []
    for latent in exact(codes).numpy().T[:, :, None]:
        svm = linear_svm().fit(latent[train], classes[train].numpy())
        found.append(svm.score(latent[test], classes[test].numpy()))
    return torch.tensor(found, dtype=torch.float64)
