"""The posterior against torch.distributions, Monte Carlo, and diffusers' own."""

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch.distributions import Independent, Normal, kl_divergence

from vae_plugin.models import DiagonalGaussian, standard_normal

SHAPES = [(3, 5), (3, 4, 2, 6)]


def draw(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return DiagonalGaussian(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))


def reference(q):
    return Independent(Normal(q.mean, q.std), q.mean.ndim - 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_kl_and_log_prob_are_those_of_torch_distributions(shape):
    q, other = draw(shape), draw(shape, seed=1)
    prior = Independent(Normal(torch.zeros(shape), torch.ones(shape)), len(shape) - 1)
    torch.testing.assert_close(q.kl(), kl_divergence(reference(q), prior))
    torch.testing.assert_close(q.kl(other), kl_divergence(reference(q), reference(other)))
    z = torch.randn(shape)
    torch.testing.assert_close(q.log_prob(z), reference(q).log_prob(z))
    torch.testing.assert_close(q.nll(z), -reference(q).log_prob(z))


@pytest.mark.parametrize("shape", SHAPES)
def test_kl_is_the_monte_carlo_mean_of_the_log_ratio(shape):
    q = draw(shape)
    generator = torch.Generator().manual_seed(2)
    ratios = []
    for _ in range(4000):
        z = q.sample(generator)
        log_prior = Normal(0.0, 1.0).log_prob(z).flatten(1).sum(1)
        ratios.append(q.log_prob(z) - log_prior)
    ratios = torch.stack(ratios)
    standard_error = ratios.std(0) / len(ratios) ** 0.5
    assert ((ratios.mean(0) - q.kl()).abs() < 4 * standard_error).all()


def test_the_kl_of_the_prior_with_itself_is_zero():
    assert DiagonalGaussian(torch.zeros(2, 3), torch.zeros(2, 3)).kl().tolist() == [0.0, 0.0]


def test_samples_are_those_of_diffusers_for_the_same_generator():
    parameters = torch.randn(2, 8, 3, 3)
    ours, theirs = DiagonalGaussian.from_parameters(parameters), DiagonalGaussianDistribution(parameters)
    assert torch.equal(ours.sample(torch.Generator().manual_seed(5)), theirs.sample(torch.Generator().manual_seed(5)))
    assert torch.equal(ours.mode(), theirs.mode())
    assert torch.equal(ours.parameters, theirs.parameters)
    torch.testing.assert_close(ours.kl(), theirs.kl())


def test_the_sample_carries_the_gradient_of_the_reparameterisation():
    mean, logvar = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    noise = torch.randn(2, 3)
    DiagonalGaussian(mean, logvar).rsample(noise).sum().backward()
    torch.testing.assert_close(mean.grad, torch.ones(2, 3))
    torch.testing.assert_close(logvar.grad, 0.5 * torch.exp(0.5 * logvar.detach()) * noise)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite_over_the_whole_range(dtype):
    logvar = torch.tensor([[-1e4, -30.0, 0.0, 11.5, 20.0, 1e4]], dtype=dtype)
    q = DiagonalGaussian(torch.full_like(logvar, 3.0), logvar)
    for value in (q.kl(), q.log_prob(torch.zeros(1, 6)), q.var, q.std):
        assert torch.isfinite(value).all()
    assert q.sample(torch.Generator().manual_seed(0)).dtype == q.mode().dtype == dtype


def test_a_log_variance_out_of_range_is_clamped_and_can_come_back():
    logvar = torch.tensor([[25.0, -40.0, 1.0]], requires_grad=True)
    q = DiagonalGaussian(torch.zeros(1, 3), logvar)
    assert q.logvar.tolist() == [[20.0, -30.0, 1.0]]
    q.kl().sum().backward()
    assert logvar.grad[0, 0] > 0  # descent lowers it
    assert logvar.grad[0, 1] < 0  # descent raises it
    torch.testing.assert_close(logvar.grad[0, 2], 0.5 * (torch.exp(torch.tensor(1.0)) - 1))


def test_one_generator_per_sample_makes_samples_independent_of_the_batch():
    def generators(seeds):
        return [torch.Generator().manual_seed(s) for s in seeds]

    both = standard_normal((2, 3, 4), generators([1, 2]))
    assert torch.equal(both[1:], standard_normal((1, 3, 4), generators([2])))
    with pytest.raises(ValueError, match="2 generators for a batch of 3"):
        standard_normal((3, 4), generators([1, 2]))


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        DiagonalGaussian(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="2 \\* channels"):
        DiagonalGaussian.from_parameters(torch.zeros(2, 5))
