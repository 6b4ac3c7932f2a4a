"""Measures of the quality of an autoencoder."""

from .drift import Drift
from .evaluation import Evaluation, evaluate, no_importance_weighted_bound
from .flatness import FlatColours, flat_colours
from .latent import RunningMoments, active_units
from .latent_range import LatentRange
from .reconstruction import psnr, ssim

__all__ = [
    "Drift",
    "Evaluation",
    "FlatColours",
    "LatentRange",
    "RunningMoments",
    "active_units",
    "evaluate",
    "flat_colours",
    "no_importance_weighted_bound",
    "psnr",
    "ssim",
]
