"""What diffusers sees: `ModelMixin` classes around the models."""

from .vae import AutoencoderVAE
from .vqvae import AutoencoderVQVAE

Autoencoder = AutoencoderVAE | AutoencoderVQVAE

__all__ = ["Autoencoder", "AutoencoderVAE", "AutoencoderVQVAE"]
