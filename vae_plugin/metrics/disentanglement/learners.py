"""The classifiers and regressors of scikit-learn, which the extra `factors` installs.

Each raises a `UserError` where scikit-learn is missing.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from ...errors import UserError


def is_installed() -> bool:
    """Whether scikit-learn is there."""
    return find_spec("sklearn") is not None


def boosted_trees(categorical: bool) -> Any:
    """100 gradient-boosted trees of depth 3, a classifier or a regressor."""
    _require("dci")
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    return (GradientBoostingClassifier if categorical else GradientBoostingRegressor)(random_state=0)


def linear_svm() -> Any:
    """A linear support vector machine that weights classes by their rarity."""
    _require("sap of a categorical factor")
    from sklearn.svm import LinearSVC

    return LinearSVC(C=0.01, class_weight="balanced", random_state=0)


def logistic_regression() -> Any:
    """A linear classifier."""
    _require("beta_vae_score")
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000, random_state=0)


def _require(what: str) -> None:
    if not is_installed():
        raise UserError(f"{what} needs scikit-learn: pip install 'vae-plugin[factors]'.")
