"""What diffusers sees: `ModelMixin` classes around the models, and one adapter for each family of autoencoders."""

from .adapter import Adapter
from .families.tiny import new_student
from .loading import autoencoder_of, load_autoencoder, new_from_config
from .passes import DeterministicPosterior, Posterior, TrainingPass, evaluation_mode
from .registry import adapt
from .scaling import LatentChange
from .tiny_flux2 import AutoencoderTinyFlux2
from .vae import AutoencoderVAE
from .vqvae import AutoencoderVQVAE

Autoencoder = AutoencoderVAE | AutoencoderVQVAE

__all__ = [
    "Adapter",
    "Autoencoder",
    "AutoencoderTinyFlux2",
    "AutoencoderVAE",
    "AutoencoderVQVAE",
    "DeterministicPosterior",
    "LatentChange",
    "Posterior",
    "TrainingPass",
    "adapt",
    "autoencoder_of",
    "evaluation_mode",
    "load_autoencoder",
    "new_from_config",
    "new_student",
]
