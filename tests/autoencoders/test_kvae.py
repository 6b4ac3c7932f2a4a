"""`AutoencoderKLKVAE`, whose class has no field for the statistics of latents."""

import logging

import pytest
import torch
from diffusers import AutoencoderKLKVAE

from support.tiny_diffusers import tiny
from vae_plugin.autoencoders import adapt, load_autoencoder
from vae_plugin.errors import UserError
from vae_plugin.training.statistics import LatentStatistics


@pytest.fixture
def diffusers_warnings(caplog):
    """What diffusers logs, which it keeps from the root logger."""
    logger = logging.getLogger("diffusers")
    logger.addHandler(caplog.handler)
    yield caplog.records
    logger.removeHandler(caplog.handler)


def test_plain_diffusers_keeps_the_statistics_without_a_word(tmp_path, diffusers_warnings):
    adapter = adapt(tiny("AutoencoderKLKVAE"))
    assert adapter.latent_scaling() == {}
    images = [torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(i)) * 2 - 1 for i in range(2)]
    mean, std = LatentStatistics(adapter, images).moments()
    LatentStatistics(adapter, images).write()
    adapter.save(tmp_path / "one")

    plain = AutoencoderKLKVAE.from_pretrained(tmp_path / "one").eval()
    assert plain.config._latents_mean == mean.tolist()
    assert plain.config._latents_std == std.tolist()
    plain.save_pretrained(tmp_path / "two")
    assert not diffusers_warnings

    again = load_autoencoder(str(tmp_path / "two"))
    again.model.eval()
    z = torch.cat([again.sample_latents(x) for x in images])
    seen = again.pipeline_latents(z)
    torch.testing.assert_close(seen, (z - mean.float().view(-1, 1, 1)) / std.float().view(-1, 1, 1))
    measured = LatentStatistics(again, images).seen()
    assert measured["latents_mean"] == pytest.approx(0, abs=1e-5)
    assert measured["latents_std"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("std", "written"), [((1, 0, 2, 11**0.5), (1, 0.02, 2, 11**0.5)), ((0,) * 4, (1,) * 4)])
def test_channels_that_hardly_vary_are_not_blown_up(std, written):
    adapter = adapt(tiny("AutoencoderKLKVAE"))
    adapter.write_latent_statistics(torch.zeros(4), torch.tensor(std, dtype=torch.float64))
    assert adapter.config._latents_std == pytest.approx(written)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"_latents_mean": [0.0, 1.0]}, "_latents_mean of this .* a list of 4 numbers"),
        ({"_latents_std": [1.0, 1.0, 0.0, 1.0]}, "_latents_std of this .* a list of 4 positive numbers"),
        ({"_latents_std": "large"}, "_latents_std of this"),
    ],
)
def test_statistics_that_cannot_be_are_refused(fields, words):
    model = tiny("AutoencoderKLKVAE")
    model.register_to_config(**fields)
    with pytest.raises(UserError, match=words):
        adapt(model)


def test_a_model_without_a_posterior_is_refused():
    with pytest.raises(UserError, match="double_z is false"):
        adapt(tiny("AutoencoderKLKVAE", double_z=False))
