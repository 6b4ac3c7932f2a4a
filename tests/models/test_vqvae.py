"""The VQ-VAE in plain torch: its bound and its loss by hand."""

import math

import pytest
import torch
from torch import nn

from vae_plugin.models import VQVAE, Gaussian, ResidualVectorQuantizer, VectorQuantizer
from vae_plugin.objectives import bits_per_dim, elbo, vq_loss


def model(quantizer, sigma=0.5):
    torch.manual_seed(0)
    return VQVAE(
        encoder=nn.Conv2d(1, 3, 2, 2),
        decoder=nn.ConvTranspose2d(3, 1, 2, 2),
        likelihood=Gaussian(sigma),
        quantizer=quantizer,
        spatial_compression_ratio=2,
    )


QUANTIZERS = {
    1: lambda: VectorQuantizer(8, 3, kmeans_init=False),
    3: lambda: ResidualVectorQuantizer(8, 3, num_quantizers=3, kmeans_init=False),
}


@pytest.mark.parametrize("stages", list(QUANTIZERS))
@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_the_bound_is_the_likelihood_minus_log_k_per_code(stages, size):
    vqvae = model(QUANTIZERS[stages]()).eval()
    x = torch.rand(4, 1, *size) * 2 - 1
    terms = elbo(vqvae, x)
    height, width = math.ceil(size[0] / 2), math.ceil(size[1] / 2)
    padded = nn.functional.pad(x, (0, 2 * width - size[1], 0, 2 * height - size[0]), mode="replicate")
    quantized, _, _ = vqvae.quantizer(vqvae.encoder(padded))
    mean = vqvae.decoder(quantized)[..., : size[0], : size[1]]
    log_likelihood = torch.distributions.Normal(mean, 0.5).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(terms.log_likelihood, log_likelihood)
    torch.testing.assert_close(terms.kl, torch.full((4,), stages * height * width * math.log(8)))
    torch.testing.assert_close(terms.value, log_likelihood - terms.kl)
    bits = bits_per_dim(terms.value, x.shape[1:])
    torch.testing.assert_close(bits, -terms.value / math.log(2) / math.prod(size))


def test_the_loss_is_the_papers_per_dimension():
    """With half the variance of the data as the Gaussian's: error over variance + codebook + beta * commitment."""
    x = torch.rand(4, 1, 6, 8) * 2 - 1
    variance = x.var().item()
    vqvae = model(
        VectorQuantizer(8, 3, codebook_update="gradient", kmeans_init=False), sigma=(variance / 2) ** 0.5
    ).train()
    output, posterior, losses = vqvae(x)
    loss = vq_loss(vqvae.likelihood.log_prob(x, output), losses, x[0].numel())
    distance = (vqvae.encoder(x) - posterior.quantized).square().mean()
    constant = 0.5 * math.log(math.pi * variance)
    expected = (output - x).square().mean() / variance + constant + 1.25 * distance
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("stages", list(QUANTIZERS))
def test_the_posterior_is_one_code_at_every_position(stages):
    vqvae = model(QUANTIZERS[stages]()).eval()
    posterior = vqvae.posterior(torch.rand(4, 1, 6, 8) * 2 - 1)
    assert posterior.indices.shape == (4, 3, 4, *([stages] if stages > 1 else []))
    assert torch.equal(posterior.sample(), posterior.mode())
    assert torch.equal(posterior.mode(), vqvae.quantizer.indices_to_codes(posterior.indices))
    torch.testing.assert_close(posterior.kl_per_dimension(), torch.full((4, 3, 4), stages * math.log(8)))
    torch.testing.assert_close(posterior.kl(), torch.full((4,), 12 * stages * math.log(8)))


def test_the_encoder_gets_the_gradient_that_the_decoder_has_for_the_codes():
    vqvae = model(VectorQuantizer(8, 3, kmeans_init=False)).eval()
    x = torch.rand(4, 1, 6, 8) * 2 - 1
    output, posterior, _ = vqvae(x)
    output.square().sum().backward()
    codes = posterior.quantized.detach().requires_grad_()
    (given,) = torch.autograd.grad(vqvae.decoder(codes).square().sum(), codes)
    latents = vqvae.encoder(x)
    weight = torch.autograd.grad(latents, vqvae.encoder.weight, given)[0]
    torch.testing.assert_close(vqvae.encoder.weight.grad, weight)


def test_training_updates_the_codebook_and_evaluation_does_not():
    vqvae = model(VectorQuantizer(8, 3, kmeans_init=False)).train()
    x = torch.rand(4, 1, 6, 8) * 2 - 1
    before = vqvae.quantizer.codebook.detach().clone()
    vqvae.posterior(x)
    elbo(vqvae, x)
    assert torch.equal(vqvae.quantizer.codebook, before)
    vqvae(x)
    assert not torch.equal(vqvae.quantizer.codebook, before)


def test_it_learns():
    """Images of two kinds, and a code for each."""
    torch.manual_seed(0)
    vqvae = model(VectorQuantizer(2, 3), sigma=0.1).train()
    optimizer = torch.optim.Adam(vqvae.parameters(), 0.02)
    kinds = torch.tensor([[[-1.0, 1.0], [1.0, -1.0]], [[1.0, 1.0], [-1.0, -1.0]]])[:, None]
    for _ in range(200):
        x = kinds[torch.randint(2, (16,))]
        output, _, losses = vqvae(x)
        loss = vq_loss(vqvae.likelihood.log_prob(x, output), losses, x[0].numel())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    posterior = vqvae.eval().posterior(kinds)
    assert sorted(posterior.indices.flatten().tolist()) == [0, 1]
    torch.testing.assert_close(vqvae.decoder_output(posterior.mode()), kinds, rtol=0, atol=0.05)
