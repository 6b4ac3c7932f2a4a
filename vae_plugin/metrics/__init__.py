"""Measures of the quality of an autoencoder."""

from .comparison import paired_differences
from .drift import Drift
from .evaluation import Evaluation, evaluate, no_importance_weighted_bound
from .flatness import FlatColourCheck, FlatColours, flat_colours
from .latent import RunningMoments, active_units
from .latent_range import LatentRange
from .measures import KLPerChannel, LatentMoments, Measure, Seen
from .reconstruction import l1, mse, psnr, ssim

__all__ = [
    "Drift",
    "Evaluation",
    "FlatColourCheck",
    "FlatColours",
    "KLPerChannel",
    "LatentMoments",
    "LatentRange",
    "Measure",
    "RunningMoments",
    "Seen",
    "active_units",
    "evaluate",
    "flat_colours",
    "l1",
    "mse",
    "no_importance_weighted_bound",
    "paired_differences",
    "psnr",
    "ssim",
]
