"""The mathematics in plain torch: networks, posteriors, likelihoods, quantisers, and the models built from them."""

from .autoencoder import EncoderDecoder
from .likelihoods import Bernoulli, DiscretizedLogisticMixture, Gaussian, Laplace, Likelihood
from .networks import MLPDecoder, MLPEncoder, resnet_decoder, resnet_encoder
from .posteriors import DiagonalGaussian, standard_normal, standard_normal_log_prob
from .quantizers import (
    FiniteScalarQuantizer,
    LookupFreeQuantizer,
    Quantizer,
    ResidualVectorQuantizer,
    SimVectorQuantizer,
    VectorQuantizer,
    nearest_code,
)
from .vae import VAE
from .vqvae import VQVAE, CodePosterior

__all__ = [
    "VAE",
    "VQVAE",
    "Bernoulli",
    "CodePosterior",
    "DiagonalGaussian",
    "DiscretizedLogisticMixture",
    "EncoderDecoder",
    "FiniteScalarQuantizer",
    "Gaussian",
    "Laplace",
    "Likelihood",
    "LookupFreeQuantizer",
    "MLPDecoder",
    "MLPEncoder",
    "Quantizer",
    "ResidualVectorQuantizer",
    "SimVectorQuantizer",
    "VectorQuantizer",
    "nearest_code",
    "resnet_decoder",
    "resnet_encoder",
    "standard_normal",
    "standard_normal_log_prob",
]
