"""Measures of the quality of an autoencoder."""

from .evaluation import Evaluation, evaluate, no_importance_weighted_bound
from .latent import RunningMoments, active_units
from .reconstruction import psnr, ssim

__all__ = [
    "Evaluation",
    "RunningMoments",
    "active_units",
    "evaluate",
    "no_importance_weighted_bound",
    "psnr",
    "ssim",
]
