"""The models as diffusers sees them."""

from .vae import AutoencoderVAE

__all__ = ["AutoencoderVAE"]
