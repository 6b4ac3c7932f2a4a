"""Every kind of model in a lab: the one that comes with the package, diffusers' own, pipelines, and what is none."""

import gc
import math
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import VQModel
from torch import nn

import vae_plugin.widgets.lab as lab_module
from support.tiny_diffusers import decoded, latents
from support.tiny_lab import LIMIT, MODELS, levels, one_sentence, open_lab, shown, tiny
from vae_plugin import AutoencoderVAE, AutoencoderVQVAE
from vae_plugin.autoencoders import adapt
from vae_plugin.autoencoders.families.causal import CausalAdapter
from vae_plugin.autoencoders.one_frame import OneFrame
from vae_plugin.datasets import Circles
from vae_plugin.errors import UserError
from vae_plugin.widgets import LatentLab
from vae_plugin.widgets.codec import Codec


def direct(model, x):
    """Latent and reconstruction of images (B, C, H, W), by the model itself."""
    z = latents(model, x)
    if adapt(model).gaussian:
        z = z.chunk(2, dim=1)[0]
    return z, decoded(model, z)


@pytest.mark.parametrize("name", MODELS)
def test_a_lab_shows_what_the_model_says(name):
    model = tiny(name)
    with open_lab(model, max_images=3) as lab:
        z, image = direct(model, lab.images[0][None])
        torch.testing.assert_close(lab.latent, z[0], rtol=0, atol=1e-5)
        assert np.abs(shown(lab) - levels(image[0])).max() <= 1
        assert lab.image.size == (16, 16)
        assert tuple(lab.latent.shape) == tuple(lab.get_state()["_info"]["latent"])
        causal = isinstance(adapt(model), CausalAdapter)
        runs_as = AutoencoderVQVAE if name == "VQModel" else OneFrame if causal else type(model)
        assert isinstance(lab.model, runs_as)
        assert f"({type(model).__name__}, " in repr(lab)
        other = torch.randn(z.shape[1:], generator=torch.Generator().manual_seed(0))
        lab.latent = other
        image = decoded(model, other[None])
        assert np.abs(shown(lab) - levels(image[0])).max() <= 1


@pytest.mark.parametrize("name", ["conv", "rvq", "AutoencoderKL"])
def test_the_users_model_is_left_as_it_is(name):
    model = tiny(name)
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trained = [value.requires_grad for value in model.parameters()]
    with open_lab(model, max_images=3) as lab:
        lab.latent = torch.randn_like(lab.latent)
        assert lab.wait(LIMIT)
        assert lab.model is model
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [value.requires_grad for value in model.parameters()] == trained
    assert all(value.grad is None for value in model.parameters())


def test_the_model_that_comes_with_the_package_is_small_and_good():
    weights = Path(lab_module.__file__).parent / "circles" / "diffusion_pytorch_model.safetensors"
    assert weights.stat().st_size < 1e6
    circles = Circles(64, 32, 3, seed=5, hue=True)
    x = torch.stack([circles[i]["pixel_values"] for i in range(64)])
    with open_lab(max_images=4) as lab:
        _, y = direct(lab.model, x)
        assert lab.images[0].shape == (3, 32, 32)
        assert lab.latent.shape == (5, 1, 1)
    found = []
    for a, b in zip(x, y, strict=True):
        mse = np.square(levels(a) - levels(b)).mean()
        found.append(10 * math.log10(255**2 / mse))
    assert np.mean(found) > 25


def test_the_latents_of_that_model_are_what_they_are_called():
    with open_lab(max_images=8) as lab:
        names = [axis.name for axis in lab.space.axes.values() if axis.group == "dimensions"]
        images = {}
        for name in names:
            latents = torch.stack([lab.space.move(torch.zeros(5, 1, 1), name, value) for value in (-1.5, 0.0, 1.5)])
            images[name] = (decoded(lab.model, latents) + 1) / 2
    assert names == ["x", "y", "radius", "hue 1", "hue 2"]

    # From the pixels alone: the centre of mass and the extent of the light, and the share of each colour.
    grid = torch.arange(32) + 0.5
    light = {name: each.sum(1) for name, each in images.items()}
    mass = {name: value.sum((1, 2)) for name, value in light.items()}
    x = {name: (value.sum(1) * grid).sum(1) / mass[name] for name, value in light.items()}
    y = {name: (value.sum(2) * grid).sum(1) / mass[name] for name, value in light.items()}
    colour = {name: each.sum((2, 3)) / mass[name][:, None] for name, each in images.items()}
    for name in names:
        assert (x[name].diff() > 4).all() if name == "x" else x[name].diff().abs().max() < 1, name
        assert (y[name].diff() > 4).all() if name == "y" else y[name].diff().abs().max() < 1, name
        assert (mass[name][2] > 3 * mass[name][0]) == (name == "radius"), name
        assert ((colour[name][2] - colour[name][0]).abs().max() > 0.4) == name.startswith("hue"), name


@pytest.mark.parametrize("part", ["vae", "vqvae"])
def test_a_pipeline(part):
    model = tiny("AutoencoderKL" if part == "vae" else "VQModel")
    with open_lab(SimpleNamespace(**{part: model, "unet": None}), max_images=3) as lab:
        z, image = direct(model, lab.images[0][None])
        torch.testing.assert_close(lab.latent, z[0], rtol=0, atol=1e-5)
        assert np.abs(shown(lab) - levels(image[0])).max() <= 1


@pytest.mark.parametrize("as_given", [str, Path])
def test_a_folder(as_given, tmp_path):
    model = tiny("conv")
    model.save_pretrained(tmp_path / "model")
    with open_lab(as_given(tmp_path / "model"), max_images=3, resolution=None) as lab:
        assert isinstance(lab.model, AutoencoderVAE)
        z, _ = direct(model, lab.images[0][None])
        torch.testing.assert_close(lab.latent, z[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["conv", "AutoencoderKL", "ema"])
def test_half_precision(name):
    model = tiny(name).to(torch.bfloat16)
    with open_lab(model, max_images=3) as lab:
        z, image = direct(model, lab.images[0][None].bfloat16())
        assert lab.latent.dtype == torch.float32
        assert torch.equal(lab.latent, z[0].float())
        assert np.abs(shown(lab) - levels(image[0].float())).max() <= 1
        assert lab.get_state()["_info"]["dtype"] == "bfloat16"
        assert lab.space.means.dtype == torch.float32


def test_a_model_with_a_range_of_images_of_its_own():
    model = tiny("ema")
    model.set_image_range(0, 1)
    with open_lab(model, max_images=3) as lab:
        x = lab.images[0]
        with torch.no_grad():
            encoded = model.encode(x[None] / 2 + 0.5)
            image = model.decode(encoded.latents).sample[0]
        torch.testing.assert_close(lab.latent, encoded.latents[0], rtol=0, atol=1e-5)
        assert np.abs(shown(lab) - levels(image * 2 - 1)).max() <= 1
        assert tuple(model.config.image_range) == (0, 1)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_numbers_of_channels(channels):
    model = tiny("conv", in_channels=channels, out_channels=channels)
    with open_lab(model, max_images=3) as lab:
        assert lab.images[0].shape == (channels, 16, 16)
        _, image = direct(model, lab.images[0][None])
        wanted = levels(image[0])
        if channels != 4:
            assert np.abs(shown(lab) - wanted[..., :1]).max() <= 1
        else:
            assert np.abs(np.asarray(lab.image.convert("RGBA")).astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("n", [1, 2])
def test_few_images(n):
    with open_lab("mlp", [np.full((16, 16, 3), i / 2) for i in range(n)]) as lab:
        assert len(lab.space.means) == n
        lab.latent = torch.ones(6, 1, 1)
        assert lab.wait(LIMIT)
        assert lab.get_state()["_thumbnails"]["rows"] == list(range(n))


def test_an_image_that_cannot_be_read_is_told_and_the_rest_is_looked_at(tmp_path):
    images = [np.full((16, 16, 3), i / 10) for i in range(10)]
    images[7] = str(tmp_path / "gone.png")
    with open_lab("mlp", images) as lab:
        assert lab.space.rows == [0, 1, 2, 3, 4, 5, 6, 8, 9]
        wanted = torch.stack([lab.encode(images[i]) for i in lab.space.rows])
        torch.testing.assert_close(lab.space.means, wanted, rtol=0, atol=1e-5)


def test_a_resolution_of_ones_own():
    with open_lab("conv", resolution=24, max_images=3) as lab:
        assert lab.images[0].shape == (3, 24, 24)
        assert lab.image.size == (24, 24)
        assert lab.latent.shape[1:] == (12, 12)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LatentLab(nn.Linear(2, 2)), "a Linear"),
        (lambda: LatentLab(7), "an int"),
        (lambda: LatentLab({}), "a dict"),
        (lambda: LatentLab(SimpleNamespace(vae=nn.Linear(2, 2))), "a Linear"),
        (lambda: LatentLab(SimpleNamespace(unet=1)), "a SimpleNamespace"),
        (lambda: LatentLab("./no/such/folder"), "./no/such/folder"),
        (lambda: LatentLab(max_images=0), "max_images is 0"),
        (lambda: LatentLab(tiny("conv"), resolution=0), "resolution is 0"),
        (lambda: LatentLab(tiny("mlp"), resolution=32), "16x16"),
        (lambda: LatentLab(tiny("mlp"), []), "no image"),
        (lambda: LatentLab(tiny("mlp"), 7), "int"),
        (lambda: LatentLab(tiny("mlp"), [torch.zeros(3, 16, 16)], labels=[1, 2]), "2 labels"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_sentence(make, words):
    with pytest.raises(UserError) as raised:
        make()
    assert words in str(raised.value)
    assert one_sentence(raised.value)


def test_a_refused_lab_goes_silently(monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    with pytest.raises(UserError):
        LatentLab(nn.Linear(2, 2))
    gc.collect()
    assert [str(one.exc_value) for one in said] == []


# --- the codec ---


@pytest.mark.parametrize("name", MODELS)
def test_batches_are_those_of_the_model(name):
    model = tiny(name)
    codec = Codec(tiny(name) if name != "VQModel" else AutoencoderVQVAE.from_vq_model(model).eval(), 16)
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    z, image = direct(model, x)
    encoded = codec.encode(x)
    torch.testing.assert_close(encoded.mean, z, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(codec.decode(encoded.mean), image, rtol=1e-4, atol=1e-4)
    assert tuple(codec.latent_shape) == tuple(z.shape[1:])
    assert codec.flat == (name == "mlp")
    assert codec.discrete == (name in ("ema", "rvq", "fsq") or isinstance(model, VQModel))
    if encoded.std is not None:
        log_variance = latents(model, x).chunk(2, dim=1)[1]
        torch.testing.assert_close(encoded.std, (0.5 * log_variance).exp(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ema", "rvq", "fsq"])
def test_codes_and_latents_are_those_of_the_model(name):
    model = tiny(name)
    codec = Codec(model, 16)
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        indices = model.encode(x).indices[0]
        codes = model.quantizer.indices_to_codes(indices[None])[0]
        image = model.decode_indices(indices[None])
    found = codec.indices(codec.encode(x).mean[0])
    assert torch.equal(codec.native(found), indices)
    assert found.shape == (8, 8, 3 if name == "rvq" else 1)
    torch.testing.assert_close(codec.codes(found), codes)
    torch.testing.assert_close(codec.decode(codes[None], found[None]), image, rtol=1e-4, atol=1e-4)


def test_the_time_of_a_decode_is_measured():
    codec = Codec(tiny("mlp"))
    assert codec.decode_seconds is None
    threads, begin = torch.get_num_threads(), time.perf_counter()
    for _ in range(10):
        codec.decode_full(torch.zeros(6, 1, 1))
    assert 0 < codec.decode_seconds < time.perf_counter() - begin
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("seconds", "shrink"), [(None, 1), (0.05, 1), (0.2, 2), (0.4, 4), (100.0, 8)])
def test_a_small_picture_takes_no_longer_than_allowed(seconds, shrink):
    codec = Codec(tiny("conv"), 64)  # 32 positions to a side, of which at least 4 are left
    codec.decode_seconds = seconds
    assert codec.preview_shrink == shrink


@pytest.mark.parametrize("name", ["conv", "rvq", "AutoencoderKL"])
def test_a_compiled_model_is_taken(name):
    model = tiny(name)
    with open_lab(torch.compile(model, backend="eager"), max_images=2) as lab:
        assert lab.model is model
        with torch.no_grad():
            assert np.abs(levels(model.decode(lab.latent[None]).sample[0]) - shown(lab)).max() <= 1
