"""The objectives against a linear-Gaussian model, whose log p(x) and posterior are known exactly.

p(z) = N(0, I), p(x|z) = N(W z + b, s^2 I): then p(x) = N(b, W W' + s^2 I) (Tipping & Bishop 1999) and
p(z|x) = N(M^-1 W'(x - b), s^2 M^-1) with M = W'W + s^2 I. Orthogonal columns of W make that posterior diagonal.
"""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from vae_plugin.models import VAE, Gaussian, MLPDecoder, MLPEncoder
from vae_plugin.objectives import (
    ELBO,
    TrainingObjective,
    bits_per_dim,
    bits_per_dim_bound,
    elbo,
    importance_weighted_bound,
    score_function_surrogate,
)

PIXELS, LATENTS, SIGMA = 6, 2, 0.5


class LinearVAE(VAE):
    """The linear-Gaussian model; `mismatch` shifts q(z|x) away from the exact posterior."""

    def __init__(self, mismatch: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(0)
        basis, _ = torch.linalg.qr(torch.randn(PIXELS, LATENTS, generator=generator))
        self.w = basis * torch.tensor([1.5, 0.7])
        self.b = torch.randn(PIXELS, generator=generator)
        precision = self.w.T @ self.w + SIGMA**2 * torch.eye(LATENTS)
        gain = torch.linalg.solve(precision, self.w.T)
        encoder, decoder = nn.Linear(PIXELS, 2 * LATENTS), nn.Linear(LATENTS, PIXELS)
        with torch.no_grad():
            encoder.weight.copy_(torch.cat([gain, torch.zeros_like(gain)]))
            logvar = (SIGMA**2 / precision.diagonal()).log() + mismatch
            encoder.bias.copy_(torch.cat([-gain @ self.b + mismatch, logvar]))
            decoder.weight.copy_(self.w)
            decoder.bias.copy_(self.b)
        super().__init__(
            nn.Sequential(nn.Flatten(), encoder), nn.Sequential(decoder, nn.Unflatten(1, (1, 2, 3))), Gaussian(SIGMA)
        )

    def log_evidence(self, x: torch.Tensor) -> torch.Tensor:
        covariance = self.w @ self.w.T + SIGMA**2 * torch.eye(PIXELS)
        return MultivariateNormal(self.b, covariance).log_prob(x.flatten(1))


@pytest.fixture
def x():
    return torch.randn(4, 1, 2, 3, generator=torch.Generator().manual_seed(1))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_at_the_exact_posterior_every_sample_gives_the_evidence(x):
    model = LinearVAE()
    torch.testing.assert_close(importance_weighted_bound(model, x, 1, generator()), model.log_evidence(x))
    torch.testing.assert_close(importance_weighted_bound(model, x, 7, generator(), 3), model.log_evidence(x))
    draws = torch.stack([elbo(model, x, generator(i)).value for i in range(3000)])
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - model.log_evidence(x)).abs() < 4 * error).all()


def test_the_bound_rises_with_the_number_of_samples_to_the_evidence(x):
    model = LinearVAE(mismatch=0.6)
    repeats = x.repeat(500, 1, 1, 1)
    bounds, errors = [], []
    for num_samples in (1, 5, 25, 125):
        with torch.no_grad():
            draws = importance_weighted_bound(model, repeats, num_samples, generator()).unflatten(0, (500, -1))
        bounds.append(draws.mean(0))
        errors.append(draws.std(0) / 500**0.5)
    for lower, higher in pairwise(bounds):
        assert (higher > lower).all()
    assert (bounds[-1] < model.log_evidence(x) + 3 * errors[-1]).all()
    assert (model.log_evidence(x) - bounds[-1] < 0.1).all()
    assert (model.log_evidence(x) - bounds[0] > 0.3).all()
    with torch.no_grad():
        elbos = elbo(model, repeats, generator(1)).value.unflatten(0, (500, -1))
    standard_error = (elbos.std(0) ** 2 / 500 + errors[0] ** 2).sqrt()
    assert ((elbos.mean(0) - bounds[0]).abs() < 4 * standard_error).all()


def test_the_gap_of_the_elbo_is_the_kl_to_the_exact_posterior(x):
    model, exact = LinearVAE(mismatch=0.6), LinearVAE()
    repeats = x.repeat(4000, 1, 1, 1)
    with torch.no_grad():
        gap = model.log_evidence(x) - elbo(model, repeats, generator()).value.unflatten(0, (4000, -1)).mean(0)
        expected = model.posterior(x).kl(exact.posterior(x))
    torch.testing.assert_close(gap, expected, rtol=0.05, atol=0)


def test_streaming_gives_what_all_samples_at_once_give(x):
    model = LinearVAE(mismatch=0.3)
    together = importance_weighted_bound(model, x, 24, generator(), samples_per_pass=24)
    for samples_per_pass in (1, 5):
        torch.testing.assert_close(importance_weighted_bound(model, x, 24, generator(), samples_per_pass), together)


def test_the_encoder_runs_once_and_no_more_than_asked_is_decoded_at_a_time(x):
    model = LinearVAE()
    batches = {"encoder": [], "decoder": []}
    model.encoder.register_forward_hook(lambda m, inputs, output: batches["encoder"].append(len(inputs[0])))
    model.decoder.register_forward_hook(lambda m, inputs, output: batches["decoder"].append(len(inputs[0])))
    importance_weighted_bound(model, x, 10, generator(), samples_per_pass=4)
    assert batches == {"encoder": [4], "decoder": [16, 16, 8]}


@pytest.mark.slow
def test_training_on_the_elbo_finds_principal_components():
    """The trained linear VAE's likelihood is that of the closed-form pPCA solution (Tipping & Bishop 1999, eq. 7)."""
    data = torch.randn(512, PIXELS, generator=generator(3)) @ torch.randn(PIXELS, PIXELS, generator=generator(4))
    data = data / data.std()
    x = data.reshape(-1, 1, 2, 3)
    covariance = torch.cov(data.T, correction=0)
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    noise = eigenvalues[:-LATENTS].mean()
    w = eigenvectors[:, -LATENTS:] * (eigenvalues[-LATENTS:] - noise).sqrt()
    best = MultivariateNormal(data.mean(0), w @ w.T + noise * torch.eye(PIXELS)).log_prob(data).mean()

    torch.manual_seed(0)
    model = VAE(MLPEncoder((1, 2, 3), LATENTS, ()), MLPDecoder(LATENTS, (1, 2, 3), ()), Gaussian("learned"))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500)
    for _ in range(1500):
        optimizer.zero_grad()
        output, posterior = model(x)
        terms = ELBO(model.likelihood.log_prob(x, output), posterior.kl_per_dimension())
        TrainingObjective().loss(terms, 0).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        reached = torch.stack([elbo(model, x, generator(i)).value.mean() for i in range(50)]).mean()
    assert best - 0.05 < reached < best + 0.02


def gradients(model, surrogate, x, repeats):
    """Samples of the gradient with respect to the encoder parameters, (repeats, parameters)."""
    rows = []
    for i in range(repeats):
        parameters = list(model.encoder.parameters())
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(surrogate(i), parameters)]))
    return torch.stack(rows)


@pytest.mark.slow
def test_both_gradient_estimators_agree_and_reparameterisation_has_far_less_variance(x, capsys):
    model = LinearVAE(mismatch=0.3)
    repeats = 2000
    path = gradients(model, lambda i: elbo(model, x, generator(i)).value.mean(), x, repeats)
    baseline = model.log_evidence(x)
    score = gradients(model, lambda i: score_function_surrogate(model, x, generator(10**6 + i), baseline), x, repeats)
    plain = gradients(model, lambda i: score_function_surrogate(model, x, generator(2 * 10**6 + i)), x, 500)
    error = ((path.var(0) + score.var(0)) / repeats).sqrt() + 1e-7
    assert ((path.mean(0) - score.mean(0)).abs() < 5 * error).all()
    ratios = [(estimate.var(0).sum() / path.var(0).sum()).item() for estimate in (score, plain)]
    with capsys.disabled():
        print(
            f"\nvariance of the score-function gradient over the reparameterised one: "
            f"{ratios[0]:.1f} with a baseline, {ratios[1]:.1f} without"
        )
    assert ratios[0] > 1.5
    assert ratios[1] > ratios[0]


def terms(kl, log_likelihood=(-10.0, -20.0)):
    return ELBO(torch.tensor(log_likelihood), torch.tensor(kl))


def test_the_unweighted_loss_is_the_negative_elbo_and_weights_leave_the_elbo_alone():
    batch = terms([[1.0, 2.0], [3.0, 4.0]])
    assert batch.value.tolist() == [-13.0, -27.0]
    assert TrainingObjective().loss(batch, 0).item() == 20.0
    assert TrainingObjective(alpha=2.0, beta=0.1).loss(batch, 0).item() == pytest.approx(2 * 15 + 0.1 * 5)
    assert batch.value.tolist() == [-13.0, -27.0]


def test_the_loss_does_not_depend_on_the_size_of_the_batch():
    batch = terms([[1.0, 2.0], [3.0, 4.0]])
    doubled = ELBO(batch.log_likelihood.repeat(2), batch.kl_per_dimension.repeat(2, 1))
    for objective in (TrainingObjective(), TrainingObjective(free_bits=2.5), TrainingObjective(capacity=4.0)):
        assert objective.loss(batch, 0).item() == objective.loss(doubled, 0).item()


def test_warm_up_is_linear_and_ends_at_beta():
    objective = TrainingObjective(beta=4.0, warmup_steps=4)
    assert [objective.kl_weight(step) for step in range(6)] == [1.0, 2.0, 3.0, 4.0, 4.0, 4.0]


def test_free_bits_are_per_channel_and_cost_nothing_below():
    kl = torch.tensor([[1.0, 2.0], [2.0, 6.0]], requires_grad=True)
    loss = TrainingObjective(free_bits=2.0).loss(ELBO(torch.zeros(2), kl), 0)
    assert loss.item() == 2.0 + 4.0  # channel means 1.5 and 4
    loss.backward()
    assert kl.grad.tolist() == [[0.0, 0.5], [0.0, 0.5]]


def test_the_free_bits_of_a_spatial_channel_are_those_of_all_its_positions():
    spatial = ELBO(torch.zeros(1), torch.full((1, 2, 3, 3), 0.5))
    assert spatial.kl_per_channel.tolist() == [[4.5, 4.5]]
    assert TrainingObjective(free_bits=4.0).loss(spatial, 0).item() == 9.0


def test_capacity_draws_the_kl_to_a_rising_target():
    objective = TrainingObjective(beta=10.0, capacity=4.0, capacity_steps=4)
    batch = terms([[3.0], [3.0]], (0.0, 0.0))
    assert [objective.loss(batch, step).item() for step in range(5)] == [20.0, 10.0, 0.0, 10.0, 10.0]
    kl = torch.tensor([[3.0]], requires_grad=True)
    objective.loss(ELBO(torch.zeros(1), kl), 3).backward()
    assert kl.grad.item() == -10.0  # below the target, descent raises the KL


def test_contradictory_objectives_are_refused():
    with pytest.raises(ValueError, match="beta is -1"):
        TrainingObjective(beta=-1.0)
    with pytest.raises(ValueError, match="give one of them"):
        TrainingObjective(free_bits=1.0, capacity=5.0)
    with pytest.raises(ValueError, match="at least 1"):
        importance_weighted_bound(LinearVAE(), torch.zeros(1, 1, 2, 3), 0)


def test_bits_per_dim_of_a_uniform_guess_over_256_levels_is_8():
    nats = torch.tensor([-math.log(256) * 3 * 32 * 32])
    torch.testing.assert_close(bits_per_dim(nats, (3, 32, 32)), torch.tensor([8.0]))


def test_the_bound_of_a_density_is_in_bits_of_8_bit_levels():
    """The density that is uniform over the 256 levels, each 1 / 127.5 wide, spends 8 bits on each value."""
    nats = torch.tensor([-math.log(256 / 127.5) * 3 * 32 * 32])
    torch.testing.assert_close(bits_per_dim_bound(nats, (3, 32, 32)), torch.tensor([8.0]))


@pytest.mark.parametrize("sigma", [0.05, 0.3])
def test_the_bound_of_a_gaussian_is_that_of_its_levels(sigma):
    """Against the sum over levels of the Gaussian integrated over each: a smooth density loses little to its middle."""
    x = torch.linspace(-1, 1, 256, dtype=torch.float64)
    normal = torch.distributions.Normal(0.1, sigma)
    exact = -(normal.cdf(x + 1 / 255) - normal.cdf(x - 1 / 255)).clamp_min(1e-300).log2()
    bound = bits_per_dim_bound(normal.log_prob(x), (1,))
    near = (x - 0.1).abs() < 3 * sigma
    torch.testing.assert_close(bound[near], exact[near], rtol=0, atol=0.02)
