"""Several models on the same images: what the differences between them are worth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .evaluation import Evaluation

RESAMPLES = 2000
AT_ONCE = 2**22  # numbers drawn together


def paired_differences(evaluations: Mapping[str, Evaluation], seed: int = 0) -> dict[str, dict[str, dict[str, float]]]:
    """The mean difference of each model from the first, image by image, with a bootstrap interval.

    The same images are easy or difficult for all models, so that the difference of two models is known far better than
    the value of either. For each metric that both have of the same images, whatever is better.

    Args:
        evaluations: of the models on the same images, by name.
        seed: of the bootstrap.

    Returns:
        For each model after the first, by name of the metric: "difference", its mean minus that of the first, and
        "low" and "high", between which 95 % of the means over resampled images lie (the percentile bootstrap; of two
        or more images).

    Raises:
        ValueError: if they were measured on different images.
    """
    (first, base), *others = evaluations.items()
    result: dict[str, dict[str, dict[str, float]]] = {}
    for name, evaluation in others:
        if evaluation.numbers != base.numbers:
            raise ValueError(f"{name} and {first} were measured on different images: give both the same batches.")
        result[name] = {}
        for metric, values in evaluation.per_image.items():
            if len(values) != len(base.per_image.get(metric, ())):
                continue
            differences = np.array(values) - np.array(base.per_image[metric])
            result[name][metric] = {"difference": float(differences.mean())}
            if len(differences) > 1:
                low, high = bootstrap_95(differences, seed)
                result[name][metric] |= {"low": low, "high": high}
    return result


def bootstrap_95(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The 2.5 and 97.5 % quantiles of the mean of values (N,) over images drawn again with replacement.

    Efron & Tibshirani 1993, chapter 13: the percentile interval, of 2,000 samples.
    """
    rng, count = np.random.default_rng((seed, 95)), len(values)
    rows = max(1, AT_ONCE // count)
    means = [
        values[rng.integers(0, count, (min(rows, RESAMPLES - start), count))].mean(1)
        for start in range(0, RESAMPLES, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)
