"""Scores of latents on images whose factors of variation are known: does each latent carry one factor?

Codes are the latents of N images, (N, D), commonly posterior means, and factors are what the images were made from,
(N, F). Every score is a function of these two; those of beta-VAE and FactorVAE need images with one factor fixed.
"""

from .beta_vae import beta_vae_score
from .dci import DCI, dci
from .factor_vae import factor_vae_score
from .fixed import Fixed, FixedFactors
from .information import Information, information
from .leading import leading_latents
from .mig import mig
from .modularity import modularity
from .sap import sap

__all__ = [
    "DCI",
    "Fixed",
    "FixedFactors",
    "Information",
    "beta_vae_score",
    "dci",
    "factor_vae_score",
    "information",
    "leading_latents",
    "mig",
    "modularity",
    "sap",
]
