"""The likelihoods against torch.distributions, closed forms and brute-force sums."""

import math
from functools import partial

import pytest
import torch
from torch import distributions as D

from vae_plugin.models import Bernoulli, DiscretizedLogisticMixture, Gaussian, Laplace

SHAPE = (3, 2, 4, 5)


@pytest.fixture
def images():
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def decoder_output():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_gaussian_and_laplace_keep_every_constant(images, decoder_output, scale):
    for likelihood, distribution in (
        (Gaussian(scale), D.Normal(decoder_output, scale)),
        (Laplace(scale), D.Laplace(decoder_output, scale)),
    ):
        expected = distribution.log_prob(images).flatten(1).sum(1)
        torch.testing.assert_close(likelihood.log_prob(images, decoder_output), expected)
        assert torch.equal(likelihood.mean(decoder_output), decoder_output)


@pytest.mark.parametrize("kind", [Bernoulli, Gaussian, Laplace, partial(DiscretizedLogisticMixture, 2)])
def test_several_samples_for_each_image_are_as_many_images(images, kind):
    likelihood = kind()
    channels = images.shape[1] * likelihood.parameters_per_channel
    outputs = torch.randn(3, len(images), channels, *images.shape[2:], generator=torch.Generator().manual_seed(2))
    expected = torch.stack([likelihood.log_prob(images, output) for output in outputs])
    torch.testing.assert_close(likelihood.log_prob_of_samples(images, outputs), expected)


def test_learned_scale_starts_at_one_and_learns_the_optimum(images, decoder_output):
    for likelihood, optimum in (
        (Gaussian("learned"), (images - decoder_output).square().mean().sqrt()),
        (Laplace("learned"), (images - decoder_output).abs().mean()),
    ):
        torch.testing.assert_close(likelihood.scale.current(), torch.tensor(1.0))
        optimizer = torch.optim.Adam(likelihood.parameters(), 0.02)
        for _ in range(400):
            optimizer.zero_grad()
            (-likelihood.log_prob(images, decoder_output).mean()).backward()
            optimizer.step()
        torch.testing.assert_close(likelihood.scale.current(), optimum, rtol=1e-3, atol=0)


def test_optimal_sigma_gives_the_closed_form_and_its_gradient(images, decoder_output):
    """sum log p = -D/2 log(2 pi e MSE), and its gradient with respect to the decoder output."""
    ours, reference = decoder_output.clone().requires_grad_(), decoder_output.clone().requires_grad_()
    value = Gaussian("optimal").log_prob(images, ours).sum()
    mse = (images - reference).square().mean()
    expected = -0.5 * images.numel() * torch.log(2 * math.pi * math.e * mse)
    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, reference.grad)


def test_optimal_laplace_scale_gives_the_closed_form(images, decoder_output):
    mean_error = (images - decoder_output).abs().mean()
    expected = -images.numel() * torch.log(2 * math.e * mean_error)
    torch.testing.assert_close(Laplace("optimal").log_prob(images, decoder_output).sum(), expected)


def test_optimal_sigma_is_not_fitted_to_the_images_it_is_evaluated_on(images, decoder_output):
    likelihood = Gaussian("optimal")
    likelihood.log_prob(images, images + 0.5)  # a training step: sigma = 0.5
    likelihood.eval()
    expected = D.Normal(decoder_output, 0.5).log_prob(images).flatten(1).sum(1)
    torch.testing.assert_close(likelihood.log_prob(images, decoder_output), expected)
    before = likelihood.state_dict()["scale.log_scale"].clone()
    likelihood.log_prob(images, decoder_output)
    assert torch.equal(before, likelihood.state_dict()["scale.log_scale"])


@pytest.mark.parametrize("kind", [Gaussian, Laplace])
@pytest.mark.parametrize("setting", ["learned", "optimal"])
def test_an_exact_reconstruction_does_not_make_the_scale_diverge(kind, setting, images):
    likelihood = kind(setting)
    optimizer = torch.optim.SGD(likelihood.parameters(), 1.0) if setting == "learned" else None
    for _ in range(200):
        output = images.clone().requires_grad_()
        value = likelihood.log_prob(images, output)
        value.sum().backward()
        assert torch.isfinite(value).all()
        assert torch.isfinite(output.grad).all()
        if optimizer is not None:
            for parameter in likelihood.parameters():
                parameter.grad.neg_()
            optimizer.step()
    assert likelihood.scale.current() >= math.exp(-6) * (1 - 1e-6)


@pytest.mark.parametrize("setting", [0.0, -1.0, math.inf, math.nan, "best", True, None])
def test_an_invalid_scale_is_refused(setting):
    with pytest.raises(ValueError, match="positive number, 'learned' or 'optimal'"):
        Gaussian(setting)


def test_bernoulli_is_that_of_torch_and_its_probabilities_sum_to_one(decoder_output):
    binary = (torch.rand(SHAPE) < 0.5).float() * 2 - 1
    likelihood = Bernoulli()
    expected = D.Bernoulli(logits=decoder_output).log_prob((binary + 1) / 2).flatten(1).sum(1)
    torch.testing.assert_close(likelihood.log_prob(binary, decoder_output), expected)
    total = sum(
        likelihood.log_prob(torch.full((4, 1, 1, 1), x), torch.tensor([-90.0, -1, 0, 3]).reshape(4, 1, 1, 1)).exp()
        for x in (-1.0, 1.0)
    )
    torch.testing.assert_close(total, torch.ones(4))
    assert likelihood.log_prob(torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), -200.0)).item() == -200.0


def extreme_mixture_parameters(num_mixtures):
    """Mixtures that are broad, narrow, out of range, and all of these at once: (N, 3 * K, 1, 1)."""
    generator = torch.Generator().manual_seed(3)
    n = 200
    logits = 3 * torch.randn(n, num_mixtures, generator=generator)
    means = 2 * torch.randn(n, num_mixtures, generator=generator)
    log_scales = torch.empty(n, num_mixtures).uniform_(-9, 2, generator=generator)
    return torch.cat([logits, means, log_scales], 1)[:, :, None, None]


@pytest.mark.parametrize("num_mixtures", [1, 5])
def test_the_256_probabilities_of_the_logistic_mixture_sum_to_one(num_mixtures):
    parameters = extreme_mixture_parameters(num_mixtures)
    likelihood = DiscretizedLogisticMixture(num_mixtures)
    levels = torch.arange(256) / 127.5 - 1
    log_probs = torch.stack(
        [likelihood.log_prob(torch.full((len(parameters), 1, 1, 1), float(x)), parameters) for x in levels]
    )
    assert torch.isfinite(log_probs).all()
    torch.testing.assert_close(log_probs.double().exp().sum(0), torch.ones(len(parameters)).double(), rtol=0, atol=2e-5)


def test_the_logistic_mixture_is_the_integral_of_its_density():
    """Against differences of the logistic CDF in float64."""
    parameters = torch.tensor([0.3, -0.2, 0.1, 0.5, -1.0, -2.0]).reshape(1, 6, 1, 1)
    weights = torch.softmax(torch.tensor([0.3, -0.2]).double(), 0)
    likelihood = DiscretizedLogisticMixture(2)
    for level in (0, 1, 100, 254, 255):
        upper = math.inf if level == 255 else (level + 0.5) / 127.5 - 1
        lower = -math.inf if level == 0 else (level - 0.5) / 127.5 - 1
        cdf = [
            torch.sigmoid((torch.tensor(edge).double() - torch.tensor([0.1, 0.5])) / torch.tensor([-1.0, -2.0]).exp())
            for edge in (upper, lower)
        ]
        expected = (weights * (cdf[0] - cdf[1])).sum().log()
        x = torch.full((1, 1, 1, 1), level / 127.5 - 1)
        torch.testing.assert_close(likelihood.log_prob(x, parameters).double(), expected[None], rtol=1e-5, atol=1e-6)


def test_the_logistic_mixture_has_finite_gradients_at_the_extremes():
    parameters = extreme_mixture_parameters(3).requires_grad_()
    for x in (-1.0, 1.0, 0.0):
        DiscretizedLogisticMixture(3).log_prob(torch.full((200, 1, 1, 1), x), parameters).sum().backward()
    assert torch.isfinite(parameters.grad).all()


@pytest.mark.parametrize(
    ("likelihood", "parameters"),
    [
        (Gaussian(0.3), torch.tensor([0.2])),
        (Laplace(0.3), torch.tensor([0.2])),
        (Bernoulli(), torch.tensor([0.7])),
        (DiscretizedLogisticMixture(2), torch.tensor([0.5, -0.5, -0.3, 0.4, -2.5, -3.0])),
    ],
)
def test_samples_have_the_mean_and_the_log_probability_matches_their_frequency(likelihood, parameters):
    n = 20_000
    output = parameters.reshape(1, -1, 1, 1).expand(n, -1, 1, 1)
    samples = likelihood.sample(output, torch.Generator().manual_seed(0))
    assert samples.shape == (n, 1, 1, 1)
    standard_error = samples.std() / n**0.5
    assert (samples.mean() - likelihood.mean(output).mean()).abs() < 5 * standard_error
    if isinstance(likelihood, (Bernoulli, DiscretizedLogisticMixture)):
        values, counts = samples.flatten().unique(return_counts=True)
        probability = likelihood.log_prob(values.reshape(-1, 1, 1, 1), output[: len(values)]).exp()
        spread = (probability * (1 - probability) / n).sqrt() + 1e-4
        assert ((counts / n - probability).abs() < 5 * spread).all()
    else:
        log_prob = likelihood.log_prob(samples, output)
        entropy = 0.5 * math.log(2 * math.pi * math.e * 0.09) if isinstance(likelihood, Gaussian) else 1 + math.log(0.6)
        assert abs(-log_prob.mean().item() - entropy) < 0.05


@pytest.mark.parametrize("likelihood", [Gaussian("learned"), Laplace(), Bernoulli(), DiscretizedLogisticMixture(2)])
def test_half_precision_outputs_are_evaluated_in_float32(likelihood):
    x = torch.zeros(2, 3, 64, 64)
    output = torch.zeros(2, 3 * likelihood.parameters_per_channel, 64, 64, dtype=torch.float16)
    value = likelihood.log_prob(x, output)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, likelihood.log_prob(x, output.float()))
    assert likelihood.mean(output).dtype == torch.float16


@pytest.mark.parametrize("log_scale", [-7.0, -5.0, -3.0, -2.0, -1.0, 0.0])
def test_the_mean_of_discretised_logistics_is_the_sum_over_all_levels(log_scale):
    mixture = DiscretizedLogisticMixture(2)
    output = torch.randn(1, 6, 3, 3, generator=torch.Generator().manual_seed(0))
    output[:, 4:] = log_scale
    levels = torch.arange(256) / 127.5 - 1
    one_pixel = output[:, :, 1:2, 1:2].expand(256, 6, 1, 1)
    p = mixture.log_prob(levels[:, None, None, None], one_pixel).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-4)
    assert mixture.mean(output)[0, 0, 1, 1].item() == pytest.approx((p * levels).sum().item(), abs=0.5 / 127.5)
