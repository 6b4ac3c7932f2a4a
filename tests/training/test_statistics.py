"""What is set from the training data after training, against the same figures computed at once."""

import pytest
import torch

from vae_plugin import AutoencoderVAE
from vae_plugin.autoencoders import adapt
from vae_plugin.training.statistics import fit_noise_scale, latent_statistics, normalize_latents


def model(**config):
    torch.manual_seed(0)
    return AutoencoderVAE(
        in_channels=1, block_out_channels=(8, 8), norm_num_groups=4, sample_size=16, latent_channels=3, **config
    ).eval()


@pytest.fixture
def images():
    return torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
def test_the_optimal_sigma_is_the_maximum_of_the_likelihood(likelihood, images):
    vae = model(likelihood=likelihood, sigma="optimal")
    fit_noise_scale(adapt(vae), images.split(7))
    scale = vae.likelihood.scale
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        output = torch.cat([vae.decoder_output(vae.posterior(x).sample(generator)) for x in images.split(7)])

        def log_prob():
            return vae.likelihood.log_prob(images, output).sum().item()

        best = log_prob()
        fitted = (images - output).double().abs().pow(scale.power).mean()
        for factor in (0.97, 1.03):
            scale.fit(fitted * factor)
            assert log_prob() < best


@pytest.mark.parametrize("sigma", [0.3, "learned"])
def test_another_sigma_is_left_alone(sigma, images):
    vae = model(sigma=sigma)
    before = {k: v.clone() for k, v in vae.state_dict().items()}
    fit_noise_scale(adapt(vae), [images])
    assert all((before[k] == v).all() for k, v in vae.state_dict().items())


def test_statistics_do_not_depend_on_the_batches(images):
    vae = model()
    once = latent_statistics(adapt(vae), [images])
    with torch.no_grad():
        z = vae.posterior(images).sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(once[0].float(), z.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(once[1].float(), z.std((0, 2, 3), correction=0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("config", [{}, {"use_post_quant_conv": False}], ids=["folded", "scaled"])
def test_pipelines_see_standard_latents(config, images):
    vae = model(**config)
    with torch.no_grad():
        before = vae(images).sample
    normalize_latents(adapt(vae), images.split(8))
    with torch.no_grad():
        torch.testing.assert_close(vae(images).sample, before, rtol=1e-3, atol=1e-4)
    mean, std = latent_statistics(adapt(vae), [images], seed=5)
    mean, std = (mean - vae.config.shift_factor) * vae.config.scaling_factor, std * vae.config.scaling_factor
    if config:  # one scale and shift for all channels: they hold for the channels together
        mean, std = mean.mean(), (std**2 + (mean - mean.mean()) ** 2).mean().sqrt()
    torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=0.05)
    torch.testing.assert_close(std, torch.ones_like(std), rtol=0, atol=0.05)
