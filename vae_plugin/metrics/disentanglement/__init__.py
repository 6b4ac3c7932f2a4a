"""Scores of latents on images whose factors of variation are known: does each latent carry one factor?"""

from .information import Information, information
from .mig import mig

__all__ = ["Information", "information", "mig"]
