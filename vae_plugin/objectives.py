"""What a VAE is trained on and judged by: the ELBO, its weighted training loss, the importance-weighted bound.

All functions take any model with `posterior`, `decoder_output` and `likelihood` (`VAE` and `AutoencoderVAE` have them)
and images x of shape (B, C, H, W) in [-1, 1]. Everything is in nats per image unless it says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from .models.distributed import mean_over_processes
from .models.likelihoods import Likelihood
from .models.posteriors import DiagonalGaussian, standard_normal, standard_normal_log_prob

Generators = torch.Generator | Sequence[torch.Generator] | None


class LatentVariableModel(Protocol):
    """What the objectives ask of a model: q(z|x), the parameters of p(x|z), and p(x|z) itself."""

    @property
    def likelihood(self) -> Likelihood:
        """p(x|z)."""
        ...

    def posterior(self, x: torch.Tensor) -> DiagonalGaussian:
        """q(z|x)."""
        ...

    def decoder_output(self, z: torch.Tensor, image_size: Sequence[int] | None = None) -> torch.Tensor:
        """Parameters of p(x|z), cropped to `image_size`."""
        ...


@dataclass
class ELBO:
    """The two terms of the evidence lower bound, per image in nats.

    Attributes:
        log_likelihood: E_q[log p(x|z)], here by one sample of z: (B,).
        kl_per_dimension: KL(q(z|x) || p(z)) of every latent dimension, the shape of the latents.
    """

    log_likelihood: torch.Tensor
    kl_per_dimension: torch.Tensor

    @property
    def kl(self) -> torch.Tensor:
        """KL(q(z|x) || p(z)): (B,) nats."""
        return self.kl_per_dimension.flatten(1).sum(1)

    @property
    def kl_per_channel(self) -> torch.Tensor:
        """KL of every latent channel, summed over its places: (B, C) nats."""
        return self.kl_per_dimension.flatten(1).unflatten(1, (self.kl_per_dimension.shape[1], -1)).sum(2)

    @property
    def value(self) -> torch.Tensor:
        """Log p(x|z) - KL, a lower bound on log p(x) in expectation over z: (B,) nats."""
        return self.log_likelihood - self.kl


def bits_per_dim(nats: torch.Tensor, image_shape: Sequence[int]) -> torch.Tensor:
    """Bits per pixel and channel, from a log-probability per image in nats: -nats / (ln 2 * C * H * W).

    Comparable between models only where the likelihood is a probability of discrete pixels (Bernoulli on binary images,
    discretised logistics on 8-bit ones); of a density (Gaussian, Laplace on [-1, 1]) it may be negative.
    """
    return -nats / (math.log(2) * math.prod(image_shape))


def elbo(model: LatentVariableModel, x: torch.Tensor, generator: Generators = None) -> ELBO:
    """The evidence lower bound by one reparameterised sample of z (Kingma & Welling 2013, eq. 7).

    Of a `VQVAE` it is log p(x|k) - positions * log K: its posterior is certain, its prior uniform (van den Oord et al.
    2017, section 3.1).
    """
    posterior = model.posterior(x)
    output = model.decoder_output(posterior.sample(generator), x.shape[-2:])
    return ELBO(model.likelihood.log_prob(x, output), posterior.kl_per_dimension())


def importance_weighted_bound(
    model: LatentVariableModel,
    x: torch.Tensor,
    num_samples: int,
    generator: Generators = None,
    samples_per_pass: int = 1,
) -> torch.Tensor:
    """log 1/K sum_k p(x, z_k) / q(z_k|x), z_k from q(z|x): (B,) nats (Burda et al. 2016, eq. 8).

    A lower bound on log p(x) that rises with K and meets it in the limit; K = 1 is the ELBO in expectation. The encoder
    runs once, the samples are streamed through a running logsumexp: memory does not grow with K. Differentiable,
    which for K > 1 is the objective of the importance-weighted autoencoder (keep K small there: the graph does grow).

    Args:
        model: as above.
        x: (B, C, H, W).
        num_samples: K, at least 1.
        generator: one, or one for each image.
        samples_per_pass: how many of the K samples are decoded together: faster for small models, more memory.

    Raises:
        ValueError: if `num_samples` or `samples_per_pass` is below 1.
    """
    if num_samples < 1 or samples_per_pass < 1:
        raise ValueError(f"num_samples ({num_samples}) and samples_per_pass ({samples_per_pass}) must be at least 1.")
    posterior = model.posterior(x)
    total = torch.full((len(x),), -math.inf, device=x.device)
    for first in range(0, num_samples, samples_per_pass):
        count = min(samples_per_pass, num_samples - first)
        weights = _log_importance_weights(model, x, posterior, count, generator)
        total = weights.logsumexp(0) if first == 0 else torch.logaddexp(total, weights.logsumexp(0))
    return total - math.log(num_samples)


def _log_importance_weights(
    model: LatentVariableModel, x: torch.Tensor, posterior: DiagonalGaussian, count: int, generator: Generators
) -> torch.Tensor:
    """Log p(x, z) - log q(z|x) for `count` samples of z per image: (count, B) nats."""
    shape = posterior.mean.shape
    z = torch.cat([posterior.rsample(standard_normal(shape, generator, x.device)) for _ in range(count)])
    output = model.decoder_output(z.to(posterior.dtype), x.shape[-2:])
    log_likelihood = model.likelihood.log_prob(x.repeat(count, 1, 1, 1), output).unflatten(0, (count, -1))
    log_prior = standard_normal_log_prob(z).unflatten(0, (count, -1))
    log_q = torch.stack([posterior.log_prob(sample) for sample in z.unflatten(0, (count, -1))])
    return log_likelihood + log_prior - log_q


@dataclass
class TrainingObjective:
    """The loss of training: alpha * -log p(x|z) + beta * KL, with the schedules of the KL's weight.

    The ELBO that is reported never has these weights. With alpha = beta = 1 and the rest off the loss is the negative
    ELBO. Weights are in units of the ELBO: beta = 1 is the bound whatever the image's size, because both terms are sums
    over their dimensions.

    Attributes:
        alpha: weight of -log p(x|z) in the ELBO.
        beta: weight of the KL (Higgins et al. 2017); 1 trains on the ELBO, 0 a deterministic autoencoder, to be used by
            its mode.
        warmup_steps: optimiser steps over which the weight of the KL rises linearly from 0 to beta (Bowman et al. 2016;
            Sonderby et al. 2016).
        free_bits: nats that every latent channel may cost for free: the KL is sum_j max(free_bits, mean over the batch
            of KL_j), a channel's KL summed over its positions (Kingma et al. 2016, eq. 15).
        capacity: target of the KL in nats: the KL term is beta * |KL - C|, and C rises linearly from 0 to the target
            (Burgess et al. 2018, eq. 8).
        capacity_steps: steps over which that target rises from 0; 0 sets it at once.
    """

    alpha: float = 1.0
    beta: float = 1.0
    warmup_steps: int = 0
    free_bits: float = 0.0
    capacity: float | None = None
    capacity_steps: int = 0

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "warmup_steps", "free_bits", "capacity_steps"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must not be negative.")
        if self.capacity is not None and self.capacity < 0:
            raise ValueError(f"capacity is {self.capacity}: it must not be negative.")
        if self.capacity is not None and self.free_bits:
            raise ValueError("free_bits and capacity both set a target for the KL: give one of them.")

    def kl_weight(self, step: int) -> float:
        """The weight of the KL at an optimiser step, counted from 0."""
        return self.beta * min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else self.beta

    def loss(self, elbo: ELBO, step: int) -> torch.Tensor:
        """The loss of a batch in nats per image (mean over the batch), shape ().

        Where a target bends the KL (free bits, capacity) the decision is taken on the mean over all processes, so that
        they train as one process with the whole batch would.
        """
        kl = elbo.kl_per_channel.mean(0)
        if self.free_bits:
            spends_more = mean_over_processes(kl) > self.free_bits
            kl_term = torch.where(spends_more, kl, torch.full_like(kl, self.free_bits)).sum()
        elif self.capacity is not None:
            target = self.capacity * (min(1.0, (step + 1) / self.capacity_steps) if self.capacity_steps else 1.0)
            kl_term = torch.sign(mean_over_processes(kl.sum()) - target) * (kl.sum() - target)
        else:
            kl_term = kl.sum()
        return self.kl_weight(step) * kl_term - self.alpha * elbo.log_likelihood.mean()


def vq_loss(
    log_likelihood: torch.Tensor, quantizer_losses: Mapping[str, torch.Tensor], dimensions: int
) -> torch.Tensor:
    """The training loss of a VQ-VAE, shape (): -log p(x|k) / dimensions + the quantiser's losses.

    Van den Oord et al. 2017, eq. 3, for each dimension of the image: with a Gaussian whose variance is half that of the
    images the first term is their code's "reconstruction error over data variance", up to a constant.

    Args:
        log_likelihood: log p(x|k) per image, (B,) nats.
        quantizer_losses: as a `Quantizer` gives them, weighted.
        dimensions: C * H * W of the image.
    """
    return sum(quantizer_losses.values(), -log_likelihood.mean() / dimensions)


def score_function_surrogate(
    model: LatentVariableModel, x: torch.Tensor, generator: Generators = None, baseline: float | torch.Tensor = 0.0
) -> torch.Tensor:
    """A scalar whose gradient is the score-function (REINFORCE) estimate of the gradient of the mean ELBO.

    d/dphi E_q[f(z)] = E_q[(f(z) - baseline) d/dphi log q(z|x)], f(z) = log p(x, z) - log q(z|x). It needs no gradient
    through z, and its variance is orders of magnitude above the reparameterised estimate's: it is here as the reference
    that Kingma & Welling 2013 (section 2.2) set out from, not to train with.

    Args:
        model: as above.
        x: (B, C, H, W).
        generator: one, or one for each image.
        baseline: a control variate, scalar or (B,), that must not depend on the sampled z.
    """
    posterior = model.posterior(x)
    z = posterior.rsample(standard_normal(posterior.mean.shape, generator, x.device)).detach()
    log_q = posterior.log_prob(z)
    log_joint = model.likelihood.log_prob(
        x, model.decoder_output(z.to(posterior.dtype), x.shape[-2:])
    ) + standard_normal_log_prob(z)
    signal = (log_joint - log_q).detach() - baseline
    return (log_joint + signal * log_q).mean()
