"""The matrix from latents to colours, against NumPy over all pixels at once."""

import numpy as np
import pytest
import torch

from support.tiny_diffusers import tiny
from support.tiny_exports import vqvae
from vae_plugin import AutoencoderVAE
from vae_plugin.autoencoders import adapt
from vae_plugin.errors import UserError
from vae_plugin.hub import RunRecord
from vae_plugin.hub.preview import preview_code
from vae_plugin.metrics.preview import LatentToRGB
from vae_plugin.models.shares import Share
from vae_plugin.training import statistics

IMAGES = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def by_numpy(latents, images):
    size = images.shape[-1] // latents.shape[-1]
    blocks = images.double().numpy().reshape(len(images), 3, latents.shape[2], size, latents.shape[3], size)
    rgb = blocks.mean((3, 5)).transpose(0, 2, 3, 1).reshape(-1, 3)
    z = latents.double().numpy().transpose(0, 2, 3, 1).reshape(-1, latents.shape[1])
    inputs = np.concatenate([z, np.ones((len(z), 1))], 1)
    fit = np.linalg.lstsq(inputs, rgb, rcond=None)[0]
    errors = ((inputs @ fit - rgb) ** 2).mean()
    return fit, 1 - errors / ((rgb - rgb.mean(0)) ** 2).mean(), 10 * np.log10(4 / errors)


def check(result, latents, images=IMAGES):
    fit, r2, psnr = by_numpy(latents, images)
    np.testing.assert_allclose([*result["factors"], result["bias"]], fit, atol=1e-5)
    assert result["r2"] == pytest.approx(r2, abs=1e-5)
    assert result["psnr"] == pytest.approx(psnr, abs=1e-2)


def test_the_fit_is_that_of_all_pixels():
    latents = torch.randn(6, 4, 4, 4, generator=torch.Generator().manual_seed(1)) + IMAGES[:, :1, ::4, ::4]
    fit = LatentToRGB()
    for part in (slice(0, 4), slice(4, 4), slice(4, 6)):
        fit.update(latents[part], IMAGES[part])
    check(fit.result(), latents)


def test_channels_that_depend_on_others_share_a_finite_fit():
    latents = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(1)).expand(-1, 4, -1, -1)
    fit = LatentToRGB()
    fit.update(latents, IMAGES)
    check(fit.result(), latents)
    assert LatentToRGB().result() is None


MODELS = {
    "KL": lambda: tiny("AutoencoderKL", scaling_factor=0.3),
    "KL with a shift": lambda: tiny("AutoencoderKL", scaling_factor=0.3, shift_factor=0.2),
    "VQ": vqvae,
    "patches": lambda: tiny("AutoencoderKLFlux2"),
    "channels": lambda: tiny("AutoencoderKLWan"),
    "folded": lambda: AutoencoderVAE(block_out_channels=(4, 4), norm_num_groups=2, sample_size=16, latent_channels=4),
}


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_it_is_of_the_latents_that_a_denoiser_or_the_decoder_sees(name, writes):
    """One pass over the images tells it, also of latents that what is written into the model changes afterwards."""
    images = torch.nn.functional.pad(IMAGES, (0, 2, 0, 2), mode="replicate") if name == "patches" else IMAGES
    torch.manual_seed(0)
    adapter = adapt(MODELS[name]().eval())
    passed = statistics.LatentStatistics(adapter, [images[:4], images[4:]], seed=3)
    if writes:
        passed.write()
    result = passed.preview()
    generator = torch.Generator().manual_seed(3)
    parts = [Share(images[i:j], tuple(range(i, j)), 0, j - i) for i, j in ((0, 4), (4, 6))]
    with torch.no_grad():
        z = torch.cat([adapter.sample_latents(part.images, part.noise(generator)) for part in parts])
        seen = adapter.model.quantize(z)[0] if adapter.discrete else adapter.pipeline_latents(z)
    if name == "KL" and not writes:
        torch.testing.assert_close(seen, 0.3 * z)
    check(result, seen, images)
    again = statistics.LatentStatistics(adapter, [images[:4], images[4:]], seed=3)
    assert passed.seen() == pytest.approx(again.seen(), rel=1e-4, abs=1e-4)


def test_every_number_of_processes_gives_the_same(monkeypatch):
    latents = torch.randn(6, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    fits = [LatentToRGB() for _ in range(3)]
    for i, fit in enumerate(fits[:2]):
        fit.update(latents[i::2], IMAGES[i::2])
    monkeypatch.setattr("vae_plugin.metrics.preview.objects_over_processes", lambda _: [fit._sums for fit in fits])
    fits[2].all_reduce()
    check(fits[2].result(), latents)


def test_there_is_none_of_gray_images_and_of_vectors():
    gray = AutoencoderVAE(in_channels=1, block_out_channels=(4, 4), norm_num_groups=2, sample_size=16)
    vectors = AutoencoderVAE(network="mlp", hidden_sizes=(4,), sample_size=16)
    for model, images in ((gray, IMAGES[:, :1]), (vectors, IMAGES)):
        assert statistics.LatentStatistics(adapt(model), [images]).preview() == {}


def test_the_card_has_it_as_code(tmp_path):
    given = {"factors": [[0.1, 0.2, 0.3], [-1, 0, 1]], "bias": [0.5, 0, -0.5], "r2": 0.5, "psnr": 20.0}
    names = {}
    exec(str(preview_code(RunRecord(latent_preview=given))).strip("`").removeprefix("python"), names)
    assert (names["latent_rgb_factors"], names["latent_rgb_factors_bias"]) == (given["factors"], given["bias"])
    assert preview_code(RunRecord()) is None
    for edited in ({"factors": "abc", "bias": [0, 0, 0]}, {"factors": [[1, 2]], "bias": [0, 0, 0]}, {"r2": 1}):
        RunRecord(latent_preview=edited).save(tmp_path)
        with pytest.raises(UserError, match=r"run\.json: latent_preview is no matrix of three"):
            RunRecord.load(tmp_path)
