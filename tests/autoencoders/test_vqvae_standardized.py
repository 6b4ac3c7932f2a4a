"""Standardised latents of the vector-quantised adapter."""

import copy

import pytest
import torch

from support.tiny_vqvae import FIXED_CODES, QUANTIZERS, images, same, state_of, tiny
from vae_plugin import AutoencoderVQVAE
from vae_plugin.models.affine import CannotStandardizeError
from vae_plugin.models.vqvae import VQVAE


@pytest.mark.parametrize("latent_channels", [4, 5])
@pytest.mark.parametrize("name", [name for name in QUANTIZERS if name not in FIXED_CODES])
def test_standardised_latents_leave_codes_and_reconstructions(name, latent_channels, tmp_path):
    model = tiny(latent_channels=latent_channels, scaling_factor=0.5, **QUANTIZERS[name])
    with torch.no_grad():  # latents far from standard, near which the codes are
        model.quant_conv.weight.mul_(torch.linspace(1, 4, latent_channels)[:, None, None, None])
        model.quant_conv.bias += torch.arange(latent_channels) + 1.0
    x = images(8, 3, 16, 16)
    VQVAE.forward(model.train(), x)
    model.eval()
    encoded, before = model.encode(x), model(x).sample
    z = encoded.latents.transpose(0, 1).flatten(1)
    model.standardize_latents(z.mean(1), z.std(1))
    after = model.encode(x)
    standard = after.latents.transpose(0, 1).flatten(1)
    torch.testing.assert_close(standard.mean(1), torch.zeros(latent_channels), rtol=0, atol=1e-4)
    torch.testing.assert_close(standard.var(1).mean(), torch.tensor(1.0), rtol=1e-4, atol=0)
    if model.quantizer.projects:
        torch.testing.assert_close(standard.std(1), torch.ones(latent_channels), rtol=1e-4, atol=0)
    # A vector halfway between two codes may fall to either, by rounding.
    assert (after.indices != encoded.indices).float().mean() < 0.002
    torch.testing.assert_close(model.decode_indices(encoded.indices), before, rtol=0, atol=1e-3)
    latents = after.latents * model.config.scaling_factor
    torch.testing.assert_close(model.decode(encoded.indices).sample, before, rtol=0, atol=1e-3)
    assert torch.equal(latents, after.latents)
    assert model.config.shift_factor == 0
    assert (model.config.latents_std is None) == (latent_channels != 4)
    torch.testing.assert_close(torch.tensor(model.config.latent_statistics["std"]), z.std(1))
    model.save_pretrained(tmp_path)
    loaded = AutoencoderVQVAE.from_pretrained(tmp_path)
    assert same(loaded.state_dict(), model.state_dict())
    assert loaded.config.latent_statistics == model.config.latent_statistics


@pytest.mark.parametrize("name", ["ema", "ema_projected", "vq", "rvq"])
def test_training_goes_on_from_standardised_latents_as_it_would_have(name):
    model = tiny(**QUANTIZERS[name], dead_code_threshold=0.0)
    x, later = images(8, 3, 16, 16), images(8, 3, 16, 16).flip(2)
    VQVAE.forward(model.train(), x)
    other = copy.deepcopy(model)
    z = model.encode(x).latents.transpose(0, 1).flatten(1)
    other.standardize_latents(z.mean(1), z.std(1))
    for each in (model, other):
        VQVAE.forward(each, later)
        each.eval()
    torch.testing.assert_close(other(later).sample, model(later).sample, rtol=0, atol=2e-2)
    indices = model.encode(later).indices
    torch.testing.assert_close(other.decode_indices(indices), model.decode_indices(indices), rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", FIXED_CODES)
def test_codes_that_cannot_be_moved_are_refused_and_left_as_they_are(name):
    model = tiny(**QUANTIZERS[name])
    before = state_of(model)
    with pytest.raises(CannotStandardizeError):
        model.standardize_latents(torch.ones(4), torch.full((4,), 2.0))
    assert same(before, state_of(model))


@pytest.mark.parametrize("absent", ["use_quant_conv", "use_post_quant_conv"])
def test_standardising_without_1x1_convolutions_is_refused(absent):
    with pytest.raises(CannotStandardizeError, match="need use_quant_conv and use_post_quant_conv"):
        tiny(**{absent: False}).standardize_latents(torch.ones(4), torch.ones(4))
