"""Codes whose scores of disentanglement are known, made by numpy alone: (N, D) from factors (N, F)."""

from __future__ import annotations

import numpy as np

CARDINALITIES = (4, 5, 3)
N = 3000


def categories(seed: int = 0, count: int = N) -> np.ndarray:
    """Three independent factors with 4, 5 and 3 values, as integers."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(size, size=count) for size in CARDINALITIES], 1)


def codes(kind: str, factors: np.ndarray, seed: int = 1) -> np.ndarray:
    """Codes of three factors, "perfect", "rotated", "random", "redundant" or "mixed"; noise comes from the seed."""
    rng = np.random.default_rng(seed)
    sizes = np.array(CARDINALITIES)
    scaled = (factors - (sizes - 1) / 2) / np.sqrt((sizes**2 - 1) / 12)  # mean 0 and variance 1
    noise = rng.standard_normal((len(factors), 3))
    if kind == "perfect":
        return np.concatenate([-scaled, noise[:, :2]], 1)
    if kind == "rotated":
        x, y, z = scaled.T
        return np.stack([x + y, x - y, z], 1)
    if kind == "random":
        return noise
    if kind == "redundant":
        return np.concatenate([scaled, 2 * scaled + 1], 1)
    assert kind == "mixed"
    return scaled @ np.array([[1, 0.2, 0.1], [0.3, 1, 0.5], [0.0, -0.4, 0.9]]) + 0.3 * noise
