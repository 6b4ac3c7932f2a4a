"""`AutoencoderVAE` as the autoencoder of diffusers' pipelines, with tiny random denoisers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from unittest import mock

import diffusers
import numpy as np
import pytest
import torch

from support import tiny_pipelines as tiny
from support.tiny_pipelines import TinyPipeline
from vae_plugin import AutoencoderVAE, AutoencoderVQVAE

# Neither is neutral, so that a pipeline's image shows what it did with them.
SCALING, SHIFT = 0.6, 0.3


@dataclass(frozen=True)
class Case:
    """What one pipeline does with its autoencoder.

    Attributes:
        build: its builder.
        encodes: calls of `encode` in a call of the pipeline.
        scaled: whether it divides latents by the scaling factor before it decodes them.
        shifted: whether it then adds the shift.
        latents: whether it offers `output_type="latent"`.
        latent_channels: the number that it needs.
        shift_factor: of the autoencoder in the tests.
    """

    build: Callable[[torch.nn.Module], TinyPipeline]
    encodes: int = 0
    scaled: bool = True
    shifted: bool = False
    latents: bool = True
    latent_channels: int = 4
    shift_factor: float = SHIFT

    def vae(self, **config: object) -> AutoencoderVAE:
        config = {"scaling_factor": SCALING, "shift_factor": self.shift_factor, **config}
        return tiny_vae(latent_channels=self.latent_channels, **config)


CASES = {
    "sd": Case(tiny.build_sd),
    "sd_img2img": Case(tiny.build_sd_img2img, encodes=1),
    "sd_inpaint": Case(tiny.build_sd_inpaint, encodes=2),  # the picture, and what the mask leaves of it
    "sdxl": Case(tiny.build_sdxl),
    "sdxl_img2img": Case(tiny.build_sdxl_img2img, encodes=1),
    "sdxl_inpaint": Case(tiny.build_sdxl_inpaint, encodes=2),
    "sd3": Case(tiny.build_sd3, shifted=True),
    "sd3_img2img": Case(tiny.build_sd3_img2img, encodes=1, shifted=True),
    # Without a shift: diffusers 0.42 subtracts it on the way in and forgets it on the way out.
    "sd3_inpaint": Case(tiny.build_sd3_inpaint, encodes=2, shifted=True, latent_channels=16, shift_factor=0.0),
    "flux": Case(tiny.build_flux, shifted=True),
    "flux_img2img": Case(tiny.build_flux_img2img, encodes=1, shifted=True),
    "flux_inpaint": Case(tiny.build_flux_inpaint, encodes=2, shifted=True),
    "dit": Case(tiny.build_dit, latents=False),
    "ldm": Case(tiny.build_ldm, latents=False),
    "ldm_superresolution": Case(tiny.build_ldm_superresolution, scaled=False, latents=False, latent_channels=3),
    "lcm": Case(tiny.build_lcm),
    "pixart": Case(tiny.build_pixart),
    "z_image": Case(tiny.build_z_image, shifted=True),
    "sana": Case(tiny.build_sana),
}
every_pipeline = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
pipelines_that_encode = pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in CASES.items() if case.encodes]
)


def tiny_vae(**config: object) -> AutoencoderVAE:
    torch.manual_seed(0)
    config = {"block_out_channels": (8, 16), "norm_num_groups": 4, "sample_size": 16, "layers_per_block": 1, **config}
    return AutoencoderVAE(**config).eval()


@contextmanager
def recorded(owner: object, method: str, of: str) -> Iterator[list[torch.Tensor]]:
    """The first argument ("input") or the first result ("output") of each call of a method while this is open."""
    original = getattr(owner, method)
    record = []

    @wraps(original)  # pipelines read the signature of a scheduler's step
    def call(*args, **kwargs):
        result = original(*args, **kwargs)
        record.append(args[0] if of == "input" else result[0])
        return result

    with mock.patch.object(owner, method, call):
        yield record


def final_latents(case: Case, pipeline: TinyPipeline) -> torch.Tensor:
    """The denoised latents (1, C, h, w), still scaled and shifted."""
    if not case.latents:
        with recorded(pipeline.pipe.scheduler, "step", "output") as steps:
            pipeline()
        return steps[-1][:1]  # DiT denoises the unconditional one too
    latents = pipeline(output_type="latent")
    if latents.ndim == 4:
        return latents
    # Flux: (1, h/2 * w/2, C * 2 * 2)
    side = round(latents.shape[1] ** 0.5)
    patches = latents.reshape(1, side, side, -1, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(1, -1, 2 * side, 2 * side)


@torch.no_grad()
def decoded(vae: torch.nn.Module, latents: torch.Tensor) -> np.ndarray:
    return (vae.decode(latents).sample / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


@every_pipeline
@pytest.mark.parametrize("channels", [(8, 16), (8, 8, 8, 16)], ids=["f2", "f8"])
def test_pipeline_gives_an_image_of_the_size_asked_for(case, channels):
    pipeline = case.build(case.vae(block_out_channels=channels))
    image = pipeline()
    assert image.shape == (1, pipeline.side, pipeline.side, 3)
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert image.max() <= 1
    assert image.std() > 0.05
    assert np.array_equal(pipeline(), image)
    assert not np.allclose(pipeline(seed=1), image, atol=0.01)


@every_pipeline
def test_image_is_the_decoded_latents_and_both_calls_are_made_as_often_as_needed(case):
    vae = case.vae()
    pipeline = case.build(vae)
    with recorded(vae, "encode", "input") as encoded, recorded(vae, "decode", "input") as decodings:
        image = pipeline()
    assert (len(encoded), len(decodings)) == (case.encodes, 1)

    latents = final_latents(case, pipeline)
    assert latents.shape == (1, case.latent_channels, pipeline.side // 2, pipeline.side // 2)
    if case.scaled:
        latents = latents / SCALING
    if case.shifted:
        latents = latents + case.shift_factor
    np.testing.assert_allclose(image, decoded(vae, latents), rtol=0, atol=1e-5)


@pipelines_that_encode
def test_denoising_starts_from_the_encoded_picture(case):
    vae = case.vae()
    pipeline = case.build(vae)
    scheduler = pipeline.pipe.scheduler
    noising = "scale_noise" if hasattr(scheduler, "scale_noise") else "add_noise"
    with recorded(vae, "encode", "input") as encoded, recorded(scheduler, noising, "input") as starts:
        pipeline(seed=5)

    pixels = torch.from_numpy(np.array(tiny.picture(pipeline.side))).permute(2, 0, 1)[None] / 127.5 - 1
    torch.testing.assert_close(encoded[0], pixels)
    with torch.no_grad():
        latents = vae.encode(pixels).latent_dist.sample(torch.Generator().manual_seed(5))
    if case.shifted:
        latents = latents - case.shift_factor
    torch.testing.assert_close(starts[0], latents * SCALING)


@pytest.mark.parametrize("name", ["sdxl", "sdxl_img2img", "sdxl_inpaint"])
def test_sdxl_uses_the_statistics_of_each_channel(name):
    mean, std = [0.1, -0.2, 0.3, 0.5], [0.5, 1.5, 2.0, 0.8]
    case = CASES[name]
    vae = case.vae(latents_mean=mean, latents_std=std)
    pipeline = case.build(vae)
    per_channel = {"mean": torch.tensor(mean).view(1, 4, 1, 1), "std": torch.tensor(std).view(1, 4, 1, 1)}
    latents = final_latents(case, pipeline) * per_channel["std"] / SCALING + per_channel["mean"]
    np.testing.assert_allclose(pipeline(), decoded(vae, latents), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["sdxl", "sdxl_img2img", "sdxl_inpaint"])
def test_sdxl_decodes_in_float32_what_force_upcast_asks_for(name):
    case = CASES[name]
    vae = case.vae(force_upcast=True).half()
    pipeline = case.build(vae)
    pipeline.pipe.to(torch.float16)
    with recorded(vae, "decode", "output") as images:
        image = pipeline()
    assert images[0].dtype == torch.float32
    assert vae.dtype == torch.float16
    assert np.isfinite(image).all()


def reloaded(pipeline: TinyPipeline, folder: object, **options: object) -> TinyPipeline:
    """The pipeline from its folder, to be called as the one that was saved."""
    absent = {name: None for name, component in pipeline.pipe.components.items() if component is None}
    pipe = type(pipeline.pipe).from_pretrained(folder, use_safetensors=True, **absent, **options)
    return TinyPipeline(pipe, pipeline.side, pipeline.arguments)


def assert_same_weights(module: torch.nn.Module, expected: torch.nn.Module) -> None:
    assert type(module) is type(expected)
    assert module.state_dict().keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        assert torch.equal(module.state_dict()[name], value), name


@pytest.mark.parametrize("name", ["dit", "sd_img2img", "flux"])
def test_saved_pipeline_is_loaded_with_the_same_autoencoder(name, tmp_path):
    case = CASES[name]
    pipeline = case.build(case.vae())
    pipeline.pipe.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["vae"] == ["vae_plugin", "AutoencoderVAE"]
    loaded = reloaded(pipeline, tmp_path)
    assert_same_weights(loaded.pipe.vae, pipeline.pipe.vae)
    assert loaded.pipe.vae.config.shift_factor == SHIFT
    # Weights mapped from a file are aligned otherwise in memory, which changes the order of sums.
    np.testing.assert_allclose(loaded(), pipeline(), rtol=0, atol=1e-5)


def test_general_classes_find_the_pipeline_and_the_autoencoder(tmp_path):
    pipeline = tiny.build_dit(tiny_vae())
    pipeline.pipe.save_pretrained(tmp_path)
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    assert type(loaded) is diffusers.DiTPipeline
    assert_same_weights(loaded.vae, pipeline.pipe.vae)
    assert_same_weights(AutoencoderVAE.from_pretrained(tmp_path, subfolder="vae"), pipeline.pipe.vae)
    assert_same_weights(diffusers.AutoModel.from_pretrained(str(tmp_path), subfolder="vae"), pipeline.pipe.vae)


def test_autoencoder_takes_the_place_of_the_one_of_a_saved_pipeline(tmp_path):
    kl = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        sample_size=16,
    )
    tiny.build_dit(kl).pipe.save_pretrained(tmp_path)
    vae = tiny_vae()
    pipeline = tiny.build_dit(vae)
    loaded = diffusers.DiTPipeline.from_pretrained(tmp_path, vae=vae)
    assert loaded.vae is vae
    image = TinyPipeline(loaded, pipeline.side, pipeline.arguments)()
    np.testing.assert_allclose(image, pipeline(), rtol=0, atol=1e-5)


def test_variant_is_saved_and_loaded(tmp_path):
    pipeline = tiny.build_dit(tiny_vae())
    pipeline.pipe.to(torch.float16).save_pretrained(tmp_path, variant="fp16")
    assert [path.name for path in (tmp_path / "vae").glob("*.safetensors")] == [
        "diffusion_pytorch_model.fp16.safetensors"
    ]
    loaded = reloaded(pipeline, tmp_path, variant="fp16", torch_dtype=torch.float16)
    assert loaded.pipe.vae.dtype == torch.float16
    assert_same_weights(loaded.pipe.vae, pipeline.pipe.vae)
    np.testing.assert_allclose(loaded(), pipeline(), rtol=0, atol=0.01)


def test_pipeline_loaded_in_bfloat16_gives_nearly_the_same_image(tmp_path):
    pipeline = tiny.build_sd_img2img(tiny_vae())
    pipeline.pipe.save_pretrained(tmp_path)
    loaded = reloaded(pipeline, tmp_path, torch_dtype=torch.bfloat16)
    assert loaded.pipe.vae.dtype == torch.bfloat16
    latents = loaded(output_type="latent")
    assert latents.dtype == torch.bfloat16
    np.testing.assert_allclose(loaded(), decoded(pipeline.pipe.vae, latents.float()), rtol=0, atol=0.05)


def test_model_offload_hook_runs_before_encode_and_before_decode():
    pipeline = tiny.build_sd_img2img(tiny_vae())
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


def test_image_to_image_pipeline_made_from_text_to_image_keeps_the_autoencoder():
    vae = tiny_vae()
    pipe = diffusers.AutoPipelineForImage2Image.from_pipe(tiny.build_sd(vae).pipe)
    assert type(pipe) is diffusers.StableDiffusionImg2ImgPipeline
    assert pipe.vae is vae
    direct = tiny.build_sd_img2img(vae)
    assert np.array_equal(TinyPipeline(pipe, direct.side, direct.arguments)(), direct())


@pytest.mark.parametrize("cls", [AutoencoderVAE, AutoencoderVQVAE])
def test_latents_with_the_channels_of_the_image_are_warned_of(cls, monkeypatch):
    """SD3's image-to-image skips `encode` then, and its picture has another side than the image."""
    said = []
    monkeypatch.setattr("vae_plugin.autoencoders.base.say_once", lambda kind, sentence: said.append(sentence))
    sizes = {"block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": 16}
    cls(**sizes, in_channels=3, latent_channels=4)
    assert said == []
    model = cls(**sizes, in_channels=3, latent_channels=3).eval()
    assert "image-to-image pipelines of SD3 and Flux" in said[0]
    encoded = []
    monkeypatch.setattr(model, "encode", lambda *a, **k: encoded.append(a))
    pipeline = tiny.build_sd3_img2img(model)
    assert pipeline().shape[1] != pipeline.side
    assert encoded == []
