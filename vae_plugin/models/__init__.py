"""The mathematics in plain torch: networks, posteriors, likelihoods and the models they make."""

from .likelihoods import Bernoulli, DiscretizedLogisticMixture, Gaussian, Laplace, Likelihood
from .networks import MLPDecoder, MLPEncoder, resnet_decoder, resnet_encoder
from .posteriors import DiagonalGaussian, standard_normal, standard_normal_log_prob
from .vae import VAE

__all__ = [
    "VAE",
    "Bernoulli",
    "DiagonalGaussian",
    "DiscretizedLogisticMixture",
    "Gaussian",
    "Laplace",
    "Likelihood",
    "MLPDecoder",
    "MLPEncoder",
    "resnet_decoder",
    "resnet_encoder",
    "standard_normal",
    "standard_normal_log_prob",
]
