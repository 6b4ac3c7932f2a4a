"""The terms of the KL against sums written out in float64, and against Gaussians whose total correlation is known."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm

from vae_plugin.models import DiagonalGaussian
from vae_plugin.models.aggregate import kl_terms


def batch(size=7, shape=(3, 1, 2), seed=0):
    generator = torch.Generator().manual_seed(seed)
    posterior = DiagonalGaussian(*(torch.randn(2, size, *shape, generator=generator)))
    return posterior, posterior.sample(generator)


def by_hand(posterior, z, weight):
    """The three terms with q(z) = sum_j weight(i, j) q(z|x_j), by loops in float64."""
    z, mean, std = (t.double().flatten(1).numpy() for t in (z, posterior.mean, posterior.std))
    rows = []
    for i, one in enumerate(z):
        weights = np.array([weight(i, j) for j in range(len(z))])
        densities = norm.logpdf(one, mean, std)
        joint = logsumexp(densities.sum(1), b=weights)
        product = sum(logsumexp(densities[:, d], b=weights) for d in range(len(one)))
        rows.append((densities[i].sum() - joint, joint - product, product - norm.logpdf(one).sum()))
    return torch.tensor(rows).T


@pytest.mark.parametrize("sampling", ["weighted", "stratified"])
@pytest.mark.parametrize("images", [7, 1000])
def test_the_terms_are_the_sums_over_the_batch(sampling, images):
    posterior, z = batch()
    others = (images - 1) / (images * 6)

    def weight(i, j):
        return 1 / (images * 7) if sampling == "weighted" else 1 / images if i == j else others

    terms = kl_terms(posterior, z, images, sampling)
    for term, expected in zip(vars(terms).values(), by_hand(posterior, z, weight), strict=True):
        torch.testing.assert_close(term.double(), expected, rtol=1e-5, atol=1e-5)


def test_of_the_whole_data_set_stratified_sampling_is_exact_and_weighted_off_by_a_constant():
    posterior, z = batch(size=9)
    exact, weighted = kl_terms(posterior, z, 9, "stratified"), kl_terms(posterior, z, 9)
    dimensions, constant = 6, math.log(9)
    torch.testing.assert_close(weighted.mutual_information, exact.mutual_information + constant)
    torch.testing.assert_close(weighted.total_correlation, exact.total_correlation + (dimensions - 1) * constant)
    torch.testing.assert_close(weighted.dimension_kl, exact.dimension_kl - dimensions * constant)


@pytest.mark.parametrize("sampling", ["weighted", "stratified"])
def test_together_the_terms_are_the_kl_in_expectation(sampling):
    posterior, _ = batch(size=5, shape=(4,))
    totals = []
    for seed in range(400):
        terms = kl_terms(posterior, posterior.sample(torch.Generator().manual_seed(seed)), 5, sampling)
        totals.append(sum(vars(terms).values()))
    totals = torch.stack(totals)
    assert ((totals.mean(0) - posterior.kl()).abs() < 5 * totals.std(0) / 20).all()


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_the_total_correlation_of_a_gaussian_is_the_closed_form(correlation):
    """Means from N(0, C) and posteriors of variance v make q(z) = N(0, C + v I)."""
    generator, size, variance = torch.Generator().manual_seed(3), 1500, 0.3
    covariance = torch.tensor([[1.0, correlation], [correlation, 1.0]])
    means = torch.randn(size, 2, generator=generator) @ torch.linalg.cholesky(covariance).T
    posterior = DiagonalGaussian(means, torch.full((size, 2), math.log(variance)))
    terms = kl_terms(posterior, posterior.sample(generator), size, "stratified")
    of_q = correlation / (1 + variance)
    assert terms.total_correlation.mean().item() == pytest.approx(-0.5 * math.log(1 - of_q**2), abs=0.03)
    information = 0.5 * torch.linalg.slogdet(covariance / variance + torch.eye(2))[1]
    assert terms.mutual_information.mean().item() == pytest.approx(information.item(), abs=0.1)


def test_stratified_sampling_finds_q_of_z_from_batches_without_replacement():
    """Its mean over batches is q(z_i), here over all 10 data points; that of weighted sampling is not."""
    posterior, z = batch(size=10, shape=(1,), seed=2)
    density = torch.exp(-0.5 * ((z - posterior.mean.T) ** 2 / posterior.var.T + posterior.logvar.T)).mean(1)
    density = density / math.sqrt(2 * math.pi)
    generator, found = torch.Generator().manual_seed(0), {"weighted": [], "stratified": []}
    for _ in range(1000):
        rows = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(9, generator=generator)[:3]])
        part = DiagonalGaussian(posterior.mean[rows], posterior.logvar[rows])
        for sampling, values in found.items():
            terms = kl_terms(part, z[rows], 10, sampling)
            log_own = norm.logpdf(z[0].item(), posterior.mean[0].item(), posterior.std[0].item())
            values.append(math.exp(log_own - terms.mutual_information[0].item()))
    stratified, weighted = (np.array(found[name]) for name in ("stratified", "weighted"))
    assert abs(stratified.mean() - density[0].item()) < 4 * stratified.std() / 1000**0.5
    assert weighted.mean() < density[0].item() / 2


def test_one_image_is_its_own_aggregate():
    posterior, z = batch(size=1)
    for sampling in ("weighted", "stratified"):
        terms = kl_terms(posterior, z, 1, sampling)
        assert terms.mutual_information.tolist() == [0.0]
        assert terms.total_correlation.item() == pytest.approx(0, abs=1e-5)


def test_what_is_not_accepted_is_said():
    posterior, z = batch()
    with pytest.raises(ValueError, match="dataset_size is 6, and the batch has 7 images"):
        kl_terms(posterior, z, 6)
    with pytest.raises(ValueError, match="sampling is 'none'"):
        kl_terms(posterior, z, 7, "none")
    with pytest.raises(ValueError, match="got latents of shape"):
        kl_terms(posterior, z[:, :2], 7)
