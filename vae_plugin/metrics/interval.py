"""The interval of a mean."""

from __future__ import annotations

import math

import numpy as np
import torch

NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)  # of the integral over [-1, 1]


def half_width_95(values: torch.Tensor) -> float:
    """Half the width of the 95 % confidence interval of the mean of independent values (N,), N at least 2.

    By Student's t distribution with N - 1 degrees of freedom, which the mean of few values follows rather than the
    normal one: of two the interval is 6.5 times as wide.
    """
    return student_t_95(len(values) - 1) * values.std().item() / math.sqrt(len(values))


def student_t_95(degrees: int) -> float:
    """The t between whose negative and itself Student's distribution has 95 % of its mass; 1.96 for large `degrees`."""
    # With t = sqrt(degrees) tan(angle) the density is a power of the cosine.
    log_total = 0.5 * math.log(math.pi) + math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2)

    def inside(angle: float) -> float:
        cosines = np.cos((NODES + 1) * angle / 2)
        return angle * float(WEIGHTS @ cosines ** (degrees - 1)) / math.exp(log_total)

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if inside(middle) > 0.95 else (middle, high)
    return math.sqrt(degrees) * math.tan(low)
