"""A trained model with another number of channels goes on from what it knew."""

import pytest
import torch
from diffusers import AsymmetricAutoencoderKL, AutoencoderKL, AutoencoderTiny

from vae_plugin import AutoencoderVAE
from vae_plugin.autoencoders import adapt
from vae_plugin.errors import UserError

MODELS = {
    "kl": lambda channels: AutoencoderKL(
        in_channels=channels, out_channels=channels, block_out_channels=(8,), norm_num_groups=4, sample_size=16
    ),
    "tiny": lambda channels: AutoencoderTiny(
        in_channels=channels,
        out_channels=channels,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ),
    "vae": lambda channels: AutoencoderVAE(in_channels=channels, block_out_channels=(8, 8), norm_num_groups=4),
}


def latent(model, x):
    encoded = model.encode(x)
    return encoded.latents if isinstance(model, AutoencoderTiny) else encoded.latent_dist.mode()


@pytest.fixture(params=MODELS)
def make(request):
    torch.manual_seed(0)
    return lambda channels=3: MODELS[request.param](channels).eval()


@torch.no_grad()
def test_gray_is_what_equal_channels_were(make, tmp_path):
    model, gray = make(), torch.rand(2, 1, 16, 16) * 2 - 1
    before = latent(model, gray.expand(-1, 3, -1, -1))
    decoded = model.decode(before).sample.mean(1, keepdim=True)
    adapt(model).adapt_channels(1)
    torch.testing.assert_close(latent(model, gray), before, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.decode(before).sample, decoded, rtol=1e-4, atol=1e-4)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert again.config.in_channels == 1
    torch.testing.assert_close(latent(again, gray), latent(model, gray))


@torch.no_grad()
def test_a_new_channel_is_not_seen_yet_and_alpha_is_opaque(make):
    model, x = make(), torch.rand(2, 4, 16, 16) * 2 - 1
    before = latent(model, x[:, :3])
    decoded = model.decode(before).sample
    adapt(model).adapt_channels(4)
    torch.testing.assert_close(latent(model, x), before)
    given = model.decode(before).sample
    torch.testing.assert_close(given[:, :3], decoded, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(given[:, 3], torch.ones_like(given[:, 3]))


@torch.no_grad()
def test_more_bands_and_fewer(make):
    model, x = make(), torch.rand(2, 7, 16, 16) * 2 - 1
    before = latent(model, x[:, :3])
    decoded = model.decode(before).sample
    adapt(model).adapt_channels(7)
    torch.testing.assert_close(latent(model, x), before)
    given = model.decode(before).sample
    torch.testing.assert_close(given[:, 5], decoded.mean(1), rtol=1e-4, atol=1e-4)
    adapt(model).adapt_channels(2)
    torch.testing.assert_close(model.decode(before).sample, decoded[:, :2], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_colours_from_gray(make):
    model, gray = make(1), torch.rand(2, 1, 16, 16) * 2 - 1
    before = latent(model, gray)
    decoded = model.decode(before).sample
    adapt(model).adapt_channels(3)
    torch.testing.assert_close(latent(model, gray.expand(-1, 3, -1, -1)), before, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.decode(before).sample, decoded.expand(-1, 3, -1, -1), rtol=1e-4, atol=1e-5)


def test_new_channels_learn(make):
    model = make()
    adapt(model).adapt_channels(5)
    x = torch.rand(2, 5, 16, 16) * 2 - 1
    (model.decode(latent(model, x)).sample - x).square().mean().backward()
    first = next(m for m in model.encoder.modules() if isinstance(m, torch.nn.Conv2d))
    assert (first.weight.grad[:, 3:].abs().sum((0, 2, 3)) > 0).all()


@pytest.mark.parametrize(
    ("make_model", "words"),
    [
        (lambda: AutoencoderVAE(network="mlp", hidden_sizes=(8,), sample_size=8), "every pixel"),
        (lambda: AsymmetricAutoencoderKL(norm_num_groups=32), "reads the image twice"),
        (
            lambda: AutoencoderVAE(block_out_channels=(32,), likelihood="logistic_mixture"),
            "no first and last convolution",
        ),
    ],
)
def test_what_cannot_be_adapted_says_so(make_model, words):
    with pytest.raises(UserError, match=words):
        adapt(make_model()).adapt_channels(4)
