"""How good an autoencoder is, in numbers."""

from .evaluation import evaluate
from .latent import RunningMoments, active_units
from .reconstruction import psnr, ssim

__all__ = ["RunningMoments", "active_units", "evaluate", "psnr", "ssim"]
