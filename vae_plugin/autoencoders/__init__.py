"""What diffusers sees: `ModelMixin` classes around the models."""

from .vae import AutoencoderVAE
from .vqvae import AutoencoderVQVAE

__all__ = ["AutoencoderVAE", "AutoencoderVQVAE"]
