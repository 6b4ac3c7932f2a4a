"""What passes between `AutoencoderVQVAE` and diffusers' pipelines: starting points, precision, folders, hooks."""

from __future__ import annotations

import json

import diffusers
import numpy as np
import pytest
import torch
from test_pipelines import CASES, SCALING, Case, assert_same_weights, pipelines_that_encode, recorded, reloaded
from transformers import CLIPTokenizer

from support import tiny_amused, tiny_pipelines
from support.tiny_pipelines import TinyPipeline
from support.tiny_vqvae import same, tiny
from vae_plugin import AutoencoderVQVAE

AMUSED = {
    "text to image": tiny_amused.build_amused,
    "image to image": tiny_amused.build_amused_img2img,
    "inpaint": tiny_amused.build_amused_inpaint,
}
every_amused = pytest.mark.parametrize("build", AMUSED.values(), ids=AMUSED)


def vqvae_of(case: Case, **config: object) -> AutoencoderVQVAE:
    options = {"scaling_factor": SCALING, "shift_factor": case.shift_factor, "latent_channels": case.latent_channels}
    return tiny(**{**options, **config})


def pixels_of(pipeline: TinyPipeline) -> torch.Tensor:
    """The pipeline's picture in [0, 1]."""
    return torch.from_numpy(np.array(tiny_pipelines.picture(pipeline.side))).permute(2, 0, 1)[None] / 255


# --- continuous latents ---------------------------------------------------------------------------------------------


@pipelines_that_encode
def test_denoising_starts_from_the_latents_before_quantisation(case):
    vae = vqvae_of(case)
    pipeline = case.build(vae)
    scheduler = pipeline.pipe.scheduler
    noising = "scale_noise" if hasattr(scheduler, "scale_noise") else "add_noise"
    with recorded(scheduler, noising, "input") as starts:
        pipeline()
    with torch.no_grad():
        latents = vae.encode(pixels_of(pipeline) * 2 - 1).latents
    if case.shifted:
        latents = latents - case.shift_factor
    torch.testing.assert_close(starts[0], latents * SCALING)


@pytest.mark.parametrize(
    "name", ["sd", "sdxl", "sd3", "ldm", "ldm_superresolution", "lcm", "pixart", "z_image", "sana"]
)
def test_every_folder_names_the_class_and_gives_it_back(name, tmp_path):
    case = CASES[name]
    pipeline = case.build(vqvae_of(case))
    pipeline.pipe.save_pretrained(tmp_path)
    part = "vqvae" if name.startswith("ldm") else "vae"
    assert json.loads((tmp_path / "model_index.json").read_text())[part] == ["vae_plugin", "AutoencoderVQVAE"]
    loaded = reloaded(pipeline, tmp_path)
    assert_same_weights(getattr(loaded.pipe, part), getattr(pipeline.pipe, part))
    np.testing.assert_allclose(loaded(), pipeline(), rtol=0, atol=1e-5)
    assert_same_weights(diffusers.AutoModel.from_pretrained(str(tmp_path), subfolder=part), getattr(loaded.pipe, part))


@pytest.mark.parametrize("name", ["sdxl", "sdxl_img2img", "sdxl_inpaint"])
def test_sdxl_decodes_in_float32_what_force_upcast_asks_for(name):
    case = CASES[name]
    vae = vqvae_of(case, force_upcast=True)
    pipeline = case.build(vae)
    before = {name: value.clone() for name, value in vae.quantizer.state_dict().items()}
    pipeline.pipe.to(torch.float16)
    with recorded(vae, "decode", "output") as images:
        image = pipeline()
    assert images[0].dtype == torch.float32
    assert vae.dtype == torch.float16
    assert same(vae.quantizer.state_dict(), before)
    assert np.isfinite(image).all()


def test_model_offload_hook_runs_before_encode_and_before_decode():
    pipeline = tiny_pipelines.build_sd_img2img(vqvae_of(CASES["sd_img2img"]))
    expected = pipeline()
    pipeline.pipe.enable_model_cpu_offload(device="cpu")  # which stands in for an accelerator
    vae = pipeline.pipe.vae
    order = []
    to_device = vae._hf_hook.pre_forward
    vae._hf_hook.pre_forward = lambda *args: (order.append("to device"), to_device(*args))[1]
    vae.encoder.register_forward_pre_hook(lambda *_: order.append("encoder"))
    vae.decoder.register_forward_pre_hook(lambda *_: order.append("decoder"))
    image = pipeline()
    assert order == ["to device", "encoder", "to device", "decoder"]
    assert np.array_equal(image, expected)


# --- discrete latents -----------------------------------------------------------------------------------------------


def seeded(build, vae):
    torch.manual_seed(0)  # of the text embeddings
    return build(vae)


@every_amused
def test_amused_gives_what_it_gives_with_a_vq_model(build):
    vae = tiny()
    image = seeded(build, vae)()
    assert image.std() > 0.05
    np.testing.assert_allclose(image, seeded(build, vae.to_vq_model())(), rtol=0, atol=1e-5)


@every_amused
@pytest.mark.parametrize("image_range", [(-1.0, 1.0), (0.0, 1.0)])
def test_amused_decodes_the_codes_that_it_has_chosen(build, image_range):
    vae = tiny(image_range=image_range)
    pipeline = build(vae)
    image = pipeline()
    assert np.array_equal(pipeline(), image)
    assert not np.allclose(pipeline(seed=1), image, atol=0.01)
    codes = pipeline(output_type="latent")
    with torch.no_grad():
        expected = vae.decode_indices(codes).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(image, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("image_range", [(-1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("name", ["image to image", "inpaint"])
def test_amused_starts_from_the_codes_of_the_picture(name, image_range):
    vae = tiny(image_range=image_range)
    pipeline = AMUSED[name](vae)
    if name == "inpaint":
        with recorded(pipeline.pipe.transformer, "forward", "input") as starts:
            pipeline()
        known = torch.arange(8).expand(1, 8, 8) < 4  # the mask is on the right
        assert (starts[0][:1][~known] == pipeline.pipe.scheduler.config.mask_token_id).all()
    else:
        with recorded(pipeline.pipe.scheduler, "add_noise", "input") as starts:
            pipeline()
        known = torch.ones(1, 8, 8, dtype=torch.bool)
    low, high = image_range
    in_range = pixels_of(pipeline)  # the pipeline never scales the picture: what it means is the autoencoder's
    signed = (in_range - low) / (high - low) * 2 - 1
    indices = tiny().encode(signed).indices
    assert torch.equal(starts[0][:1][known], indices[known])
    assert len(indices.unique()) > 2


@every_amused
def test_amused_with_a_prompt_and_a_tokenizer_comes_back_from_its_folder(build, tmp_path):
    pipeline = build(tiny(image_range=(0.0, 1.0)))
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "b</w>": 3}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=8)
    pipeline.pipe.register_modules(tokenizer=tokenizer)
    pipeline.pipe.save_pretrained(tmp_path)
    pipe = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    assert type(pipe) is type(pipeline.pipe)
    assert_same_weights(pipe.vqvae, pipeline.pipe.vqvae)
    assert tuple(pipe.vqvae.config.image_range) == (0.0, 1.0)
    arguments = {name: value for name, value in pipeline.arguments.items() if "embeds" not in name}
    arguments = {name: value for name, value in arguments.items() if "hidden_states" not in name}
    images = [TinyPipeline(each, pipeline.side, {**arguments, "prompt": "a b"})() for each in (pipe, pipeline.pipe)]
    assert images[0].std() > 0.05
    np.testing.assert_allclose(images[0], images[1], rtol=0, atol=1e-5)
