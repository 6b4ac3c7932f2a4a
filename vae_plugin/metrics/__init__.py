"""Measures of the quality of an autoencoder."""

from .comparison import paired_differences
from .comparison_page import Compared, comparison_page, write_page
from .continuity import Continuity, continuity
from .drift import Drift
from .evaluation import Evaluation, evaluate, no_importance_weighted_bound
from .factor_scores import FactorScores
from .flatness import FlatColourCheck, FlatColours, flat_colours
from .frechet import FrechetDistance
from .latent import RunningMoments, active_units
from .latent_range import LatentRange
from .measures import KLPerChannel, LatentMoments, Measure, Seen
from .neighbours import Coverage, coverage_and_density, expected_coverage
from .precision import LowPrecision
from .reconstruction import l1, ms_ssim, mse, psnr, ssim
from .regularity import Regularity
from .throughput import throughput

__all__ = [
    "Compared",
    "Continuity",
    "Coverage",
    "Drift",
    "Evaluation",
    "FactorScores",
    "FlatColourCheck",
    "FlatColours",
    "FrechetDistance",
    "KLPerChannel",
    "LatentMoments",
    "LatentRange",
    "LowPrecision",
    "Measure",
    "Regularity",
    "RunningMoments",
    "Seen",
    "active_units",
    "comparison_page",
    "continuity",
    "coverage_and_density",
    "evaluate",
    "expected_coverage",
    "flat_colours",
    "l1",
    "ms_ssim",
    "mse",
    "no_importance_weighted_bound",
    "paired_differences",
    "psnr",
    "ssim",
    "throughput",
    "write_page",
]
