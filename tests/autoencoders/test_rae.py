"""`AutoencoderRAE`: only its decoder is trained, on images of one size, for the latents of a frozen vision model."""

import copy

import pytest
import torch
from diffusers import AutoencoderRAE
from PIL import Image

from support.runs import assert_same, options, weights
from support.tiny_diffusers import latents, tiny
from vae_plugin import finetune
from vae_plugin.autoencoders import adapt, load_autoencoder
from vae_plugin.errors import UserError

STATISTICS = {"latents_mean": torch.randn(64, 8, 8).tolist(), "latents_std": (torch.rand(64, 8, 8) + 0.5).tolist()}


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """The folder of a model with statistics, a scale and noise."""
    folder = tmp_path_factory.mktemp("noisy")
    tiny("AutoencoderRAE", noise_tau=0.8, scaling_factor=0.5, **STATISTICS).save_pretrained(folder)
    return folder


def tuned(source, tmp_path, **changes):
    """A run of four steps, with a checkpoint after two, on pictures of noise."""
    data = tmp_path / "images"
    data.mkdir(exist_ok=True, parents=True)
    generator = torch.Generator().manual_seed(0)
    for i in range(8):
        pixels = (torch.rand(20, 20, 3, generator=generator) * 255).byte()
        Image.fromarray(pixels.numpy()).save(data / f"{i}.png")
    settings = {
        "pretrained_model_name_or_path": str(source),
        "train_data_dir": str(data),
        "train": "decoder",
        "max_train_steps": 4,
        "checkpointing_steps": 2,
        "num_validation_images": 2,
        "train_batch_size": 2,
        "learning_rate": 1e-3,
    }
    finetune.train(options(tmp_path / "out", **{**settings, **changes}))
    return tmp_path / "out"


def test_the_range_and_the_statistics_are_those_of_plain_diffusers(noisy, images):
    adapter = load_autoencoder(str(noisy))
    plain = AutoencoderRAE.from_pretrained(noisy).eval()
    assert (adapter.natural_resolution, adapter.only_image_size) == (16, (16, 16))
    with torch.no_grad():
        z = plain.encode((images + 1) / 2).latent
        torch.testing.assert_close(adapter.latents(images), z)
        torch.testing.assert_close(adapter.reconstruct(images), plain.decode(z).sample * 2 - 1)
        adapter.model.train()  # in which `encode` draws noise
        torch.testing.assert_close(adapter.latents(images), z)
    assert adapter.model.training
    before = copy.deepcopy(dict(adapter.config))
    adapter.write_latent_statistics(torch.ones(64), torch.ones(64))
    assert dict(adapter.config) == before
    assert torch.equal(adapter.pipeline_latents(z), z)


def test_the_noise_of_training_is_that_of_the_class(noisy, images):
    """The class draws a strength in [0, noise_tau] and adds normal noise to the tokens: with these numbers, by hand."""
    adapter = load_autoencoder(str(noisy))
    plain = AutoencoderRAE.from_pretrained(noisy).train()
    noise = torch.randn(adapter.noise_shape(2, 16, 16), generator=torch.Generator().manual_seed(3))
    strength = 0.8 * torch.distributions.Normal(0, 1).cdf(noise[:, 0]).view(2, 1, 1)
    tokens = noise[:, 1:].view(2, 64, 64).transpose(1, 2)  # as (B, N, C), which the class adds them to
    plain._noising = lambda x, generator=None: x + strength * tokens
    with torch.no_grad():
        expected = plain((images + 1) / 2).sample * 2 - 1
        done = adapter.training_pass(images, noise)
        torch.testing.assert_close(done.reconstruction, expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(done.reconstruction, adapter.reconstruct(images), atol=1e-3)


def test_only_the_decoder_changes_and_a_resumed_run_ends_the_same(noisy, images, tmp_path):
    whole = tuned(noisy, tmp_path / "whole", gradient_checkpointing=True)
    state = tmp_path / "again" / "out" / "checkpoints" / "step-000002"
    state.parent.mkdir(parents=True)
    (whole / "checkpoints" / "step-000002").rename(state)
    again = tuned(noisy, tmp_path / "again", gradient_checkpointing=True, resume_from_checkpoint="latest")
    assert_same(weights(whole), weights(again))
    before, after = weights(noisy), weights(whole)
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert torch.equal(after[key], value) or key.startswith("decoder."), key
    plain = AutoencoderRAE.from_pretrained(whole).eval()
    base = AutoencoderRAE.from_pretrained(noisy).eval()
    assert torch.equal(latents(plain, images), latents(base, images))
    assert not torch.equal(plain.decoder.decoder_pred.weight, base.decoder.decoder_pred.weight)
    assert (plain.config.latents_mean, plain.config.scaling_factor) == (STATISTICS["latents_mean"], 0.5)
    card = (whole / "README.md").read_text()
    assert "vae.encode((x + 1) / 2).latent" in card
    assert "vae.decode(z).sample * 2 - 1" in card
    assert "2510.11690" in card


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": "all"}, "--train all cannot be done with AutoencoderRAE.*give --train decoder"),
        ({"train": "encoder"}, "--train encoder cannot be done with AutoencoderRAE"),
        ({"lora_rank": 2}, "--lora_rank: diffusers has no adapters for AutoencoderRAE"),
        ({"resolution": 32}, "needs --resolution 16"),
        ({"in_channels": 1}, "its encoder is a vision model of three channels"),
    ],
)
def test_what_cannot_be_is_one_sentence(noisy, tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        tuned(noisy, tmp_path, **changes)


def test_models_without_a_grid_of_latents_are_refused():
    with pytest.raises(UserError, match="give one with 3 channels, and latents on a grid"):
        adapt(tiny("AutoencoderRAE", reshape_to_2d=False))
