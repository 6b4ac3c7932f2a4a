"""The aggregate posterior q(z) = 1/N sum_n q(z|x_n) of a data set, and what the KL consists of.

Averaged over the data set, KL(q(z|x) || p(z)) is the sum of three terms (Chen et al. 2018, "Isolating Sources of
Disentanglement in Variational Autoencoders", eq. 2): the mutual information of image and latents, the total correlation
of the latents, and the KL of each latent dimension's own distribution from the prior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..arguments import Instance, Tensor, Whole, accepts
from .posteriors import LOG_2PI, DiagonalGaussian

SAMPLINGS = ("weighted", "stratified")


@dataclass
class KLTerms:
    """The three terms of the KL by one sample of each posterior, (B,) nats each; their means over B are estimates.

    Attributes:
        mutual_information: log q(z|x) - log q(z), whose mean estimates KL(q(z, x) || q(z) p(x)).
        total_correlation: log q(z) - sum_d log q(z_d), whose mean estimates KL(q(z) || prod_d q(z_d)).
        dimension_kl: sum_d log q(z_d) - log p(z_d), whose mean estimates sum_d KL(q(z_d) || p(z_d)).
    """

    mutual_information: torch.Tensor
    total_correlation: torch.Tensor
    dimension_kl: torch.Tensor


@accepts(posterior=Instance((DiagonalGaussian,), "a DiagonalGaussian"), z=Tensor("B ..."), dataset_size=Whole(1))
def kl_terms(posterior: DiagonalGaussian, z: torch.Tensor, dataset_size: int, sampling: str = "weighted") -> KLTerms:
    """The terms of the KL, with q(z) estimated by the posteriors of a batch drawn from a data set.

    For every z the three terms add up to log q(z|x) - log p(z), whatever the estimate of q(z): in expectation to the
    KL. Two estimates are offered, of which only "stratified" is one of values:

    - "weighted", minibatch-weighted sampling (Chen et al. 2018, eq. 5): log q(z) ~ log 1/(N B) sum_j q(z|x_j) over the
      batch, and likewise for each z_d. A bound on E[log q(z)] from below that is off by log B even where the batch is
      the data set, so that the total correlation of D dimensions is too large by (D - 1) log B there. Constants have
      no gradient: this is what beta-TCVAE trains on, and N plays no part in it.
    - "stratified": q(z) ~ 1/N q(z|x_i) + (N - 1)/N times the mean of q(z|x_j) over the others, of which z is no sample.
      An unbiased estimate of q(z) from a batch drawn without replacement, exact where the batch is the data set; it is
      the minibatch-stratified sampling of their appendix C.2 with all others weighted alike. Its logarithm is still too
      small on average (Jensen), the more so the more nats the latents hold beside log B.

    Costs B^2 numbers per latent dimension.

    Args:
        posterior: q(z|x) of B images, all of whose entries count as dimensions.
        z: one sample of each posterior, shape as its mean.
        dataset_size: number of images N that the batch was drawn from.
        sampling: "weighted" or "stratified".

    Raises:
        ValueError: for another sampling, a data set smaller than the batch, or z of another shape than the mean.
    """
    size = len(z)
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling is {sampling!r}: it must be one of {', '.join(SAMPLINGS)}.")
    if dataset_size < size:
        raise ValueError(f"dataset_size is {dataset_size}, and the batch has {size} images: give at least as many.")
    log_q_own = posterior.log_prob(z)
    z, mean, logvar = (t.flatten(1) for t in (z.to(posterior.mean.dtype), posterior.mean, posterior.logvar))
    error = (z[:, None] - mean).square() * torch.exp(-logvar)
    log_q_of = -0.5 * (LOG_2PI + logvar + error)  # log q(z_id | x_j): (B, B, D)
    weights = _log_weights(size, dataset_size, sampling, z)
    log_q_joint = (log_q_of.sum(2) + weights).logsumexp(1)
    log_q_product = (log_q_of + weights[:, :, None]).logsumexp(1).sum(1)
    log_prior = -0.5 * (z.square() + LOG_2PI).sum(1)
    return KLTerms(log_q_own - log_q_joint, log_q_joint - log_q_product, log_q_product - log_prior)


def _log_weights(size: int, dataset_size: int, sampling: str, like: torch.Tensor) -> torch.Tensor:
    """Log of the weight of posterior j in q(z_i): (B, B)."""
    if sampling == "weighted" or size == 1:
        return like.new_full((size, size), -math.log(dataset_size * size))
    others = (dataset_size - 1) / (dataset_size * (size - 1))
    return like.new_full((size, size), math.log(others)).fill_diagonal_(-math.log(dataset_size))
