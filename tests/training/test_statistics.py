"""What is set from the training data after training, against the same figures computed at once."""

import numpy as np
import pytest
import torch

from support.tiny_diffusers import BY_NAME, tiny
from vae_plugin import AutoencoderVAE
from vae_plugin.autoencoders import adapt
from vae_plugin.training.statistics import LatentStatistics, fit_noise_scale


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
    once = LatentStatistics(adapt(vae), [images]).moments()
    with torch.no_grad():
        z = vae.posterior(images).sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(once[0].float(), z.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(once[1].float(), z.std((0, 2, 3), correction=0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("config", [{}, {"use_post_quant_conv": False}], ids=["folded", "scaled"])
def test_pipelines_see_standard_latents(config, images):
    vae = model(**config)
    with torch.no_grad():
        before = vae(images).sample
    LatentStatistics(adapt(vae), images.split(8)).write()
    with torch.no_grad():
        torch.testing.assert_close(vae(images).sample, before, rtol=1e-3, atol=1e-4)
    mean, std = LatentStatistics(adapt(vae), [images], seed=5).moments()
    mean, std = (mean - vae.config.shift_factor) * vae.config.scaling_factor, std * vae.config.scaling_factor
    if config:  # one scale and shift for all channels: they hold for the channels together
        mean, std = mean.mean(), (std**2 + (mean - mean.mean()) ** 2).mean().sqrt()
    torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=0.05)
    torch.testing.assert_close(std, torch.ones_like(std), rtol=0, atol=0.05)


def samples_of(adapter, batches, seed):
    """The latents as numpy arrays, one row for each position, of one generator over all batches."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        z = torch.cat([adapter.statistics_vectors(adapter.sample_latents(x, generator)) for x in batches])
    return z.double().numpy().transpose(0, 2, 3, 1).reshape(-1, z.shape[1])


@pytest.fixture
def batches():
    return [torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(i)) * 2 - 1 for i in range(3)]


@pytest.mark.parametrize("name", BY_NAME)
def test_the_statistics_are_those_of_numpy(name, batches):
    adapter = adapt(tiny(name))
    mean, std = LatentStatistics(adapter, batches, seed=4).moments()
    z = samples_of(adapter, batches, 4)
    np.testing.assert_allclose(mean.numpy(), z.mean(0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(std.numpy(), z.std(0), rtol=1e-6)


def test_the_statistics_of_flux2_are_those_of_patches(batches):
    adapter = adapt(tiny("AutoencoderKLFlux2"))
    z = torch.arange(2 * 4 * 5 * 4, dtype=torch.float32).reshape(2, 4, 5, 4)
    patches = adapter.statistics_vectors(z)
    assert patches.shape == (2, 16, 2, 2)  # the fifth row is left out
    for channel in range(4):
        for dy in range(2):
            for dx in range(2):
                expected = z[:, channel, dy:4:2, dx::2]
                assert torch.equal(patches[:, channel * 4 + dy * 2 + dx], expected)
    LatentStatistics(adapter, batches, seed=4).write()
    samples = samples_of(adapter, batches, 4)
    np.testing.assert_allclose(adapter.model.bn.running_mean.numpy(), samples.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(adapter.model.bn.running_var.numpy(), samples.var(0), rtol=1e-5)


@pytest.mark.parametrize("shift", [None, 0.1])
@pytest.mark.parametrize("name", ["AutoencoderKL", "AutoencoderDC"])
def test_one_scale_for_all_channels_is_that_of_numpy(name, shift, batches):
    adapter = adapt(tiny(name, **({"shift_factor": shift} if name == "AutoencoderKL" else {})))
    LatentStatistics(adapter, batches, seed=4).write()
    z = samples_of(adapter, batches, 4)
    centre = z.mean() if shift is not None and name == "AutoencoderKL" else 0.0
    assert adapter.config.scaling_factor == pytest.approx(1 / np.sqrt(((z - centre) ** 2).mean()), rel=1e-6)
    if centre:
        assert adapter.config.shift_factor == pytest.approx(centre, rel=1e-5)
    else:
        assert adapter.config.get("shift_factor") is None


def test_a_vae_without_1x1_convolutions_gets_one_scale_and_keeps_the_statistics(images):
    vae = model(use_post_quant_conv=False)
    adapter = adapt(vae)
    z = samples_of(adapter, images.split(8), 0)
    LatentStatistics(adapter, images.split(8)).write()
    assert vae.config.shift_factor == pytest.approx(z.mean(), rel=1e-5)
    assert vae.config.scaling_factor == pytest.approx(1 / z.std(), rel=1e-5)
    np.testing.assert_allclose(vae.config.latent_statistics["mean"], z.mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(vae.config.latent_statistics["std"], z.std(0), rtol=1e-5)


SEEN = {
    "scale": ("AutoencoderKL", {"scaling_factor": 0.4}, lambda z: z * 0.4),
    "scale and shift": ("AutoencoderKL", {"scaling_factor": 0.4, "shift_factor": 0.3}, lambda z: (z - 0.3) * 0.4),
    "each channel": (
        "AutoencoderKL",
        {"scaling_factor": 2.0, "latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [1.0, 2.0, 3.0, 4.0]},
        lambda z: (z - np.array([0.1, 0.2, 0.3, 0.4])) * 2 / np.array([1.0, 2.0, 3.0, 4.0]),
    ),
    "no scale": ("AutoencoderTiny", {"scaling_factor": 1.0}, lambda z: z),
}


@pytest.mark.parametrize("case", SEEN)
def test_what_pipelines_see_is_measured_as_numpy_does(case, batches):
    name, config, pipeline = SEEN[case]
    adapter = adapt(tiny(name, **config))
    seen = pipeline(samples_of(adapter, batches, 0))
    measured = LatentStatistics(adapter, batches).seen()
    assert measured["latents_mean"] == pytest.approx(seen.mean(), rel=1e-4, abs=1e-6)
    assert measured["latents_std"] == pytest.approx(seen.std(), rel=1e-5)


def test_what_the_pipelines_of_flux2_see_is_measured_as_numpy_does(batches):
    adapter = adapt(tiny("AutoencoderKLFlux2"))
    bn = adapter.model.bn
    bn.running_mean.uniform_(-1, 1)
    bn.running_var.uniform_(0.5, 2)
    z = samples_of(adapter, batches, 0)
    seen = (z - bn.running_mean.numpy()) / np.sqrt(bn.running_var.numpy() + bn.eps)
    measured = LatentStatistics(adapter, batches).seen()
    assert measured["latents_mean"] == pytest.approx(seen.mean(), rel=1e-4, abs=1e-6)
    assert measured["latents_std"] == pytest.approx(seen.std(), rel=1e-5)


@pytest.mark.parametrize(("likelihood", "power"), [("gaussian", 2), ("laplace", 1)])
def test_the_fitted_scale_is_the_mean_deviation_of_numpy(likelihood, power, images):
    vae = model(likelihood=likelihood, sigma="optimal")
    fit_noise_scale(adapt(vae), images.split(7), seed=3)
    generator, deviations = torch.Generator().manual_seed(3), []
    with torch.no_grad():
        for x in images.split(7):
            output = vae.decoder_output(vae.posterior(x).sample(generator), x.shape[-2:])
            deviations.append(np.abs((x - output).double().numpy()) ** power)
    mean = np.concatenate([d.ravel() for d in deviations]).mean()
    assert vae.likelihood.scale.log_scale.item() == pytest.approx(np.log(mean) / power, rel=1e-5)


@pytest.mark.parametrize("make", [lambda: model(likelihood="bernoulli"), lambda: tiny("AutoencoderKL", in_channels=1)])
def test_without_a_scale_there_is_nothing_to_fit(make, images):
    adapter = adapt(make())
    before = {k: v.clone() for k, v in adapter.model.state_dict().items()}
    fit_noise_scale(adapter, [images])
    assert all((before[k] == v).all() for k, v in adapter.model.state_dict().items())
