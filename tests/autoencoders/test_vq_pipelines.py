"""`AutoencoderVQVAE` in pipelines of continuous latents, and in those of codes."""

from __future__ import annotations

import json

import diffusers
import numpy as np
import pytest
import torch
from test_pipelines import CASES, SCALING, assert_same_weights, decoded, final_latents, recorded, reloaded

from support import tiny_amused
from support import tiny_pipelines as tiny
from support.tiny_pipelines import TinyPipeline
from vae_plugin import AutoencoderVQVAE
from vae_plugin.models.quantizers.settings import QUANTIZERS

AMUSED = {
    "text to image": tiny_amused.build_amused,
    "image to image": tiny_amused.build_amused_img2img,
    "inpaint": tiny_amused.build_amused_inpaint,
}
every_amused = pytest.mark.parametrize("build", AMUSED.values(), ids=AMUSED)


def vqvae(**config: object) -> AutoencoderVQVAE:
    torch.manual_seed(0)
    shape = {"block_out_channels": (8, 16), "norm_num_groups": 4, "sample_size": 16, "layers_per_block": 1}
    return AutoencoderVQVAE(**{**shape, "num_vq_embeddings": 64, **config}).eval()


@pytest.mark.parametrize("name", list(CASES))
def test_the_image_is_that_of_the_codes_nearest_to_the_denoised_latents(name):
    case = CASES[name]
    vae = vqvae(latent_channels=case.latent_channels, scaling_factor=SCALING, shift_factor=case.shift_factor)
    pipeline = case.build(vae)
    with recorded(vae, "encode", "input") as encoded, recorded(vae, "decode", "input") as decodings:
        image = pipeline()
    assert (len(encoded), len(decodings)) == (case.encodes, 1)
    assert image.shape == (1, pipeline.side, pipeline.side, 3)
    assert np.isfinite(image).all()
    assert image.std() > 0.03
    latents = final_latents(case, pipeline)
    if case.scaled:
        latents = latents / SCALING
    if case.shifted:
        latents = latents + case.shift_factor
    np.testing.assert_allclose(image, decoded(vae, latents), rtol=0, atol=1e-5)
    codes = vae.quantizer(latents)[1]
    by_codes = (vae.decode_indices(codes) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).detach().numpy()
    np.testing.assert_allclose(image, by_codes, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", QUANTIZERS)
@pytest.mark.parametrize("name", ["sd_img2img", "flux", "dit"])
def test_with_every_quantizer_saved_and_loaded(name, kind, tmp_path):
    case = CASES[name]
    vae = vqvae(latent_channels=4, quantizer_type=kind, num_vq_embeddings=256, scaling_factor=SCALING)
    pipeline = case.build(vae)
    pipeline.pipe.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["vae"] == ["vae_plugin", "AutoencoderVQVAE"]
    loaded = reloaded(pipeline, tmp_path)
    assert_same_weights(loaded.pipe.vae, vae)
    np.testing.assert_allclose(loaded(), pipeline(), rtol=0, atol=1e-4)


@every_amused
@pytest.mark.parametrize("kind", ["ema", "vq", "fsq", "lfq", "simvq"])
def test_pipelines_of_codes(build, kind):
    vae = vqvae(quantizer_type=kind, num_vq_embeddings=256)
    vae.set_image_range(0, 1)  # what these pipelines work with
    pipeline = build(vae)
    with recorded(vae, "decode", "input") as decoded_codes:
        image = pipeline()
    assert image.shape == (1, pipeline.side, pipeline.side, 3)
    assert np.isfinite(image).all()
    assert image.std() > 0.03
    codes = decoded_codes[0]
    assert not codes.is_floating_point()
    vae.set_image_range(-1, 1)
    expected = (vae.decode_indices(codes) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).detach().numpy()
    np.testing.assert_allclose(image, expected, rtol=0, atol=1e-5)


def test_a_pipeline_of_one_code_per_position_refuses_several():
    with pytest.raises(ValueError, match="64 positions, and this 'rvq' quantiser has 4 code"):
        tiny_amused.build_amused(vqvae(quantizer_type="rvq", num_vq_embeddings=256))()


def test_inpainting_keeps_the_codes_of_what_is_not_masked():
    vae = vqvae(image_range=(0.0, 1.0))
    pipeline = tiny_amused.build_amused_inpaint(vae)
    with recorded(vae, "decode", "input") as decoded_codes:
        pipeline()
    pixels = torch.from_numpy(np.array(tiny.picture(pipeline.side))).permute(2, 0, 1)[None] / 255
    codes = vae.encode(pixels).indices
    assert torch.equal(decoded_codes[0][:, :, :4], codes[:, :, :4])
    assert not torch.equal(decoded_codes[0][:, :, 4:], codes[:, :, 4:])


@every_amused
def test_a_saved_pipeline_of_codes_is_loaded_with_the_same_autoencoder(build, tmp_path):
    pipeline = build(vqvae())
    pipeline.pipe.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["vqvae"] == ["vae_plugin", "AutoencoderVQVAE"]
    loaded = type(pipeline.pipe).from_pretrained(tmp_path, use_safetensors=True, tokenizer=None)
    assert_same_weights(loaded.vqvae, pipeline.pipe.vqvae)
    image = TinyPipeline(loaded, pipeline.side, pipeline.arguments)()
    np.testing.assert_allclose(image, pipeline(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("force_upcast", [False, True])
@every_amused
def test_pipelines_of_codes_in_half_precision(build, force_upcast):
    vae = vqvae(force_upcast=force_upcast).half()
    pipeline = build(vae)
    codebook = vae.quantizer.codebook.detach().clone()
    with recorded(vae, "decode", "output") as images:
        image = pipeline()
    assert images[0].dtype == (torch.float32 if force_upcast else torch.float16)
    assert vae.dtype == torch.float16
    assert torch.equal(vae.quantizer.codebook, codebook)
    assert np.isfinite(image).all()


@every_amused
def test_offloading_whole_models(build):
    pipeline = build(vqvae())
    expected = pipeline()
    pipeline.pipe.enable_model_cpu_offload(device="cpu")  # which stands in for an accelerator
    np.testing.assert_allclose(pipeline(), expected, rtol=0, atol=1e-6)


def test_diffusers_own_discrete_model_fails_where_this_one_works():
    """What makes the class worth having; when this fails, diffusers has mended it."""
    theirs = diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        latent_channels=4,
    ).eval()
    with pytest.raises(TypeError, match="generator"):
        CASES["sd"].build(theirs)()
    CASES["sd"].build(AutoencoderVQVAE.from_vq_model(theirs))()
