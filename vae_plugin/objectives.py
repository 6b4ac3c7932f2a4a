"""Objectives of a VAE: the ELBO, the weighted training loss and the importance-weighted bound.

All functions take any model with `posterior`, `decoder_output` and `likelihood` (such as `VAE` and `AutoencoderVAE`)
and images x of shape (B, C, H, W) in [-1, 1]. Units are nats per image unless stated otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from .arguments import Instance, Real, Several, Tensor, Whole, accepts, check
from .models.aggregate import KLTerms, kl_terms
from .models.distributed import mean_over_processes
from .models.likelihoods import Likelihood
from .models.posteriors import (
    GENERATORS,
    DiagonalGaussian,
    Generators,
    standard_normal,
    standard_normal_log_prob,
    unchecked_normal,
)

__all__ = [
    "ELBO",
    "Generators",
    "ImportanceSamples",
    "KLTerms",
    "LatentVariableModel",
    "TrainingObjective",
    "bits_per_dim",
    "bits_per_dim_bound",
    "decode_samples",
    "elbo",
    "importance_weighted_bound",
    "kl_terms",
    "score_function_surrogate",
    "vq_loss",
]
STEPS = ("warmup_steps", "capacity_steps")
WEIGHTS = ("alpha", "beta", "warmup_steps", "tc_weight", "free_bits", "capacity")  # of the ELBO and its parts
NUMBERS_PER_PASS = 2**18  # that stay in the cache of a processor
TENSOR = Tensor()


@runtime_checkable
class LatentVariableModel(Protocol):
    """Model interface that the objectives need: q(z|x), the parameters of p(x|z), and p(x|z) itself."""

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


MODEL = Instance((LatentVariableModel,), "a model with posterior, decoder_output and likelihood")


@dataclass
class ELBO:
    """The two terms of the evidence lower bound, in nats.

    Attributes:
        log_likelihood: E_q[log p(x|z)] per image, estimated with one sample of z: (B,).
        kl_per_dimension: KL(q(z|x) || p(z)) of every latent dimension, same shape as the latents.
    """

    log_likelihood: torch.Tensor
    kl_per_dimension: torch.Tensor

    def __post_init__(self) -> None:
        if not torch.compiler.is_compiling():
            check({"log_likelihood": Tensor("B"), "kl_per_dimension": Tensor("B ...")}, vars(self))

    @property
    def kl(self) -> torch.Tensor:
        """KL(q(z|x) || p(z)) per image: (B,) nats."""
        return self.kl_per_dimension.flatten(1).sum(1)

    @property
    def kl_per_channel(self) -> torch.Tensor:
        """KL of every latent channel, summed over positions: (B, C) nats."""
        return self.kl_per_dimension.flatten(1).unflatten(1, (self.kl_per_dimension.shape[1], -1)).sum(2)

    @property
    def value(self) -> torch.Tensor:
        """Log-likelihood minus KL: (B,) nats, in expectation over z a lower bound on log p(x)."""
        return self.log_likelihood - self.kl


@accepts(nats=Tensor(), image_shape=Several(Whole(1)))
def bits_per_dim(nats: torch.Tensor, image_shape: Sequence[int]) -> torch.Tensor:
    """Convert a log-probability per image in nats to bits per pixel and channel: -nats / (ln 2 * C * H * W).

    Values are comparable between models only if the likelihood is a probability of discrete pixels (Bernoulli on binary
    images, discretised logistics on 8-bit ones). For a density (Gaussian or Laplace on [-1, 1]) they can be negative:
    see `bits_per_dim_bound`.
    """
    return -nats / (math.log(2) * math.prod(image_shape))


def bits_per_dim_bound(nats: torch.Tensor, image_shape: Sequence[int]) -> torch.Tensor:
    """An upper bound on the bits per pixel and channel of 8-bit images, by a log-density in nats or a bound on it.

    -nats / (ln 2 * C * H * W) + log2(127.5): the 256 levels lie 1 / 127.5 apart in [-1, 1], so a density there is 127.5
    times smaller as one over levels. That is the scale that papers report (Theis, van den Oord & Bethge 2016, "A note
    on the evaluation of generative models", section 3.1), up to the noise that spreads a level over its interval.
    """
    return bits_per_dim(nats, image_shape) + math.log2(127.5)


@accepts(model=MODEL, x=TENSOR, generator=GENERATORS)
def elbo(
    model: LatentVariableModel,
    x: torch.Tensor,
    generator: Generators = None,
    posterior: DiagonalGaussian | None = None,
) -> ELBO:
    """Evidence lower bound, estimated with one reparameterised sample of z (Kingma & Welling 2013, eq. 7).

    For a `VQVAE`, whose posterior is deterministic and whose prior is uniform, it is log p(x|k) - positions * log K
    (van den Oord et al. 2017, section 3.1).

    Args:
        model: a `LatentVariableModel`.
        x: images (B, C, H, W).
        generator: one generator, or one for each image.
        posterior: that of the images, where it is known already.
    """
    posterior = model.posterior(x) if posterior is None else posterior
    output = model.decoder_output(posterior.sample(generator), x.shape[-2:])
    return ELBO(model.likelihood.log_prob(x, output), posterior.kl_per_dimension())


@accepts(model=MODEL, x=TENSOR, num_samples=Whole(), generator=GENERATORS, samples_per_pass=Whole(optional=True))
def importance_weighted_bound(
    model: LatentVariableModel,
    x: torch.Tensor,
    num_samples: int,
    generator: Generators = None,
    samples_per_pass: int | None = None,
    posterior: DiagonalGaussian | None = None,
) -> torch.Tensor:
    """Importance-weighted bound log 1/K sum_k p(x, z_k) / q(z_k|x) with z_k ~ q(z|x): (B,) nats.

    Burda et al. 2016, eq. 8: a lower bound on log p(x) that increases with K and converges to it; K = 1 is the ELBO in
    expectation. The encoder runs once and the samples are streamed through a running logsumexp, so memory does not grow
    with K. The bound is differentiable and for K > 1 the objective of the importance-weighted autoencoder. When
    training on it keep K small, because the autograd graph does grow with K.

    Args:
        model: a `LatentVariableModel`.
        x: images (B, C, H, W).
        num_samples: number of samples K, at least 1.
        generator: one generator, or one for each image.
        samples_per_pass: number of samples decoded together; more is faster for small models but needs more memory. By
            default so many that they are images of 2^18 numbers at most, or one.
        posterior: that of the images, where it is known already.

    Raises:
        ValueError: if `num_samples` or `samples_per_pass` is below 1.
    """
    if samples_per_pass is None:
        samples_per_pass = max(1, NUMBERS_PER_PASS // max(1, x.numel()))
    if num_samples < 1 or samples_per_pass < 1:
        raise ValueError(f"num_samples ({num_samples}) and samples_per_pass ({samples_per_pass}) must be at least 1.")
    posterior = model.posterior(x) if posterior is None else posterior
    total = torch.full((len(x),), -math.inf, device=x.device)
    for first in range(0, num_samples, samples_per_pass):
        count = min(samples_per_pass, num_samples - first)
        noise = [unchecked_normal(posterior.mean.shape, generator, x.device) for _ in range(count)]
        weights = decode_samples(model, x, posterior, torch.stack(noise)).log_weights
        total = weights.logsumexp(0) if first == 0 else torch.logaddexp(total, weights.logsumexp(0))
    return total - math.log(num_samples)


@dataclass
class ImportanceSamples:
    """Several samples of z for each image, decoded together.

    Attributes:
        output: parameters of p(x|z), (K * B, C', H, W), all images of the first sample first.
        log_likelihood: log p(x|z): (K, B) nats.
        log_weights: log p(x, z) - log q(z|x), the logarithms of the importance weights: (K, B) nats.
    """

    output: torch.Tensor
    log_likelihood: torch.Tensor
    log_weights: torch.Tensor

    @property
    def bound(self) -> torch.Tensor:
        """The importance-weighted bound by these samples (Burda et al. 2016, eq. 8): (B,) nats.

        Its gradient is that of the log weights, each counted by its share of all the weights of its image (eq. 13).
        """
        return self.log_weights.logsumexp(0) - math.log(len(self.log_weights))


def decode_samples(
    model: LatentVariableModel, x: torch.Tensor, posterior: DiagonalGaussian, noise: torch.Tensor
) -> ImportanceSamples:
    """Decode the samples mean + sigma * noise of q(z|x) in one pass.

    Args:
        model: a `LatentVariableModel`.
        x: images (B, C, H, W).
        posterior: q(z|x) of them.
        noise: standard normal, K times the shape of the latents: (K, B, ...).
    """
    count = len(noise)
    z = posterior.rsample(noise)
    output = model.decoder_output(z.flatten(0, 1).to(posterior.dtype), x.shape[-2:])
    log_likelihood = model.likelihood.log_prob_of_samples(x, output.unflatten(0, (count, len(x))))
    # log p(z) - log q(z|x), in which the constants cancel, and (z - mean) / sigma is the noise.
    log_ratio = 0.5 * (noise.square() + posterior.logvar - z.square()).flatten(2).sum(2)
    return ImportanceSamples(output, log_likelihood, log_likelihood + log_ratio)


@dataclass
class TrainingObjective:
    """Training loss alpha * -log p(x|z) + beta * KL, with schedules for the KL.

    The weights never enter the ELBO that is reported. With alpha = beta = 1 and everything else off, the loss is the
    negative ELBO. Both terms are sums over their dimensions, so beta = 1 means the bound whatever the image size.

    Attributes:
        alpha: weight of -log p(x|z).
        beta: weight of the KL (Higgins et al. 2017): 1 trains on the ELBO, 0 trains a deterministic autoencoder, to be
            used by its mode.
        warmup_steps: number of optimiser steps over which the weight of the KL rises linearly from 0 to beta (Bowman et
            al. 2016; Sonderby et al. 2016).
        free_bits: nats per latent channel that are not penalised: the KL becomes sum_j max(free_bits, KL_j), where KL_j
            is the KL of channel j summed over positions and averaged over the batch (Kingma et al. 2016, eq. 15).
        capacity: target C of the KL in nats: the KL term becomes beta * |KL - C| (Burgess et al. 2018, eq. 8).
        capacity_steps: number of optimiser steps over which the target rises linearly from 0; 0 sets it at once.
        tc_weight: weight of the total correlation of the latents alone, within the KL (Chen et al. 2018); by default
            beta, as of the rest of the KL. Estimated over each batch of all processes by minibatch-weighted sampling.
        num_importance_samples: samples of z per image; with several the loss is the negative importance-weighted bound
            by them instead of the negative ELBO (Burda et al. 2016), which nothing else here weighs.
    """

    alpha: float = 1.0
    beta: float = 1.0
    warmup_steps: int = 0
    free_bits: float = 0.0
    capacity: float | None = None
    capacity_steps: int = 0
    tc_weight: float | None = None
    num_importance_samples: int = 1

    def __post_init__(self) -> None:
        weights, steps = dict.fromkeys(("alpha", "beta", "free_bits"), Real(0)), dict.fromkeys(STEPS, Whole())
        check({**weights, **steps, **dict.fromkeys(("tc_weight", "capacity"), Real(0, optional=True))}, vars(self))
        check({"num_importance_samples": Whole(1)}, vars(self))
        if self.capacity is not None and self.free_bits:
            raise ValueError("free_bits and capacity both set a target for the KL: give one of them.")
        if self.tc_weight is not None and (self.free_bits or self.capacity is not None):
            raise ValueError(
                "tc_weight weighs a part of the KL that free_bits and capacity set a target for: give one."
            )
        if self.num_importance_samples > 1:
            for name in WEIGHTS:
                if getattr(self, name) != getattr(type(self), name):
                    raise ValueError(f"num_importance_samples is for the bound without weights: leave {name} out.")

    @accepts(step=Whole())
    def kl_weight(self, step: int) -> float:
        """Weight of the KL at an optimiser step, counted from 0."""
        return self.beta * self._warmth(step)

    def _warmth(self, step: int) -> float:
        return min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0

    @accepts(elbo=Instance((ELBO,), "an ELBO"), step=Whole(), total_correlation=Tensor("", optional=True))
    def loss(self, elbo: ELBO, step: int, total_correlation: torch.Tensor | None = None) -> torch.Tensor:
        """Loss of a batch in nats per image, averaged over the batch: shape ().

        Free bits and capacity compare the KL with their target by its mean over all processes, so that these train like
        a single process with the whole batch.

        Args:
            elbo: of the batch.
            step: optimiser step, from 0.
            total_correlation: mean over the batch in nats, shape (), as `kl_terms` estimates it; with `tc_weight`.
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
        loss = self.kl_weight(step) * kl_term - self.alpha * elbo.log_likelihood.mean()
        if self.tc_weight is None:
            return loss
        if total_correlation is None:
            raise ValueError("tc_weight weighs the total correlation: give it to the loss.")
        return loss + (self.tc_weight - self.beta) * self._warmth(step) * total_correlation


@accepts(
    log_likelihood=Tensor("B"), quantizer_losses=Instance((Mapping,), "a map of losses by name"), dimensions=Whole(1)
)
def vq_loss(
    log_likelihood: torch.Tensor, quantizer_losses: Mapping[str, torch.Tensor], dimensions: int
) -> torch.Tensor:
    """Training loss of a VQ-VAE: -log p(x|k) / dimensions + the quantiser's losses, shape ().

    Van den Oord et al. 2017, eq. 3, per dimension of the image. With a Gaussian whose variance is half that of the
    images, the first term is the "reconstruction error over data variance" of the authors' code, up to a constant.

    Args:
        log_likelihood: log p(x|k) per image, (B,) nats.
        quantizer_losses: weighted losses, as returned by a `Quantizer`.
        dimensions: number of dimensions of the image, C * H * W.
    """
    return sum(quantizer_losses.values(), -log_likelihood.mean() / dimensions)


@accepts(model=MODEL, x=TENSOR, generator=GENERATORS, baseline=Tensor("", "B", also_numbers=True))
def score_function_surrogate(
    model: LatentVariableModel, x: torch.Tensor, generator: Generators = None, baseline: float | torch.Tensor = 0.0
) -> torch.Tensor:
    """Scalar whose gradient is the score-function (REINFORCE) estimate of the gradient of the mean ELBO.

    d/dphi E_q[f(z)] = E_q[(f(z) - baseline) d/dphi log q(z|x)] with f(z) = log p(x, z) - log q(z|x). It needs no
    gradient through z, but its variance is orders of magnitude larger than that of the reparameterised estimate. It is
    a reference for comparison (Kingma & Welling 2013, section 2.2), not meant for training.

    Args:
        model: a `LatentVariableModel`.
        x: images (B, C, H, W).
        generator: one generator, or one for each image.
        baseline: control variate, scalar or (B,); must not depend on the sampled z.
    """
    posterior = model.posterior(x)
    z = posterior.rsample(standard_normal(posterior.mean.shape, generator, x.device)).detach()
    log_q = posterior.log_prob(z)
    log_joint = model.likelihood.log_prob(
        x, model.decoder_output(z.to(posterior.dtype), x.shape[-2:])
    ) + standard_normal_log_prob(z)
    signal = (log_joint - log_q).detach() - baseline
    return (log_joint + signal * log_q).mean()
