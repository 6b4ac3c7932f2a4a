"""`AutoencoderVAE` in pipelines that name another class than `AutoencoderKL`, with tiny random denoisers."""

from __future__ import annotations

import sys
from unittest import mock

import diffusers
import numpy as np
import pytest
import torch

from support.tiny_families import FAMILIES
from support.tiny_pipelines import TinyPipeline
from vae_plugin import AutoencoderVAE
from vae_plugin.autoencoders.presentation import PRESENTATIONS

MEAN, STD = torch.tensor([0.1, 0.2, -0.3, 0.4]), torch.tensor([0.5, 1.5, 2.0, 0.8])
SCALE = 1.7
SCALED_ONLY = ("hunyuanimage", "sana")  # their pipelines do not subtract a mean
every_pipeline = pytest.mark.parametrize(
    ("family", "name"), [pytest.param(family, name, id=name) for family, names in FAMILIES.items() for name in names]
)


def tiny_vae(family: str, name: str, folded: bool) -> AutoencoderVAE:
    """A model whose latents have `MEAN` and `STD` to its pipelines: in its config, or folded into its weights."""
    torch.manual_seed(0)
    widths = (8, 8, 8, 16) if "Flux2" in name else (8, 16)  # FLUX.2's take pictures from 64 pixels on
    sizes = {"block_out_channels": widths, "norm_num_groups": 4, "sample_size": 64, "layers_per_block": 1}
    vae = AutoencoderVAE(**sizes, pipeline_family=family).eval()
    mean, std = (torch.zeros(4), torch.full((4,), SCALE)) if family in SCALED_ONLY else (MEAN, STD)
    if folded:
        vae.standardize_latents(mean, std)
    elif family in SCALED_ONLY:
        vae.register_to_config(scaling_factor=1 / SCALE)
    else:
        vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
    return vae


@pytest.fixture(autouse=True)
def small_edits(monkeypatch):
    """The editing pipelines of Qwen-Image encode pictures of 1024 x 1024 pixels, whatever is asked for."""
    for name, size in (
        ("QwenImageEditPipeline", (16, 16, None)),
        ("QwenImageEditInpaintPipeline", (16, 16, None)),
        ("QwenImageEditPlusPipeline", (16, 16)),
    ):
        module = sys.modules[getattr(diffusers, name).__module__]
        monkeypatch.setattr(module, "calculate_dimensions", lambda area, ratio, size=size: size)


@every_pipeline
def test_statistics_in_the_config_and_in_the_weights_are_the_same_to_a_pipeline(family, name):
    """So the pipeline normalises what it encodes, and undoes it before it decodes, as the config says."""
    build = FAMILIES[family][name]
    vae = tiny_vae(family, name, folded=False)
    pipeline = build(vae)
    with mock.patch.object(vae, "encode", wraps=vae.encode) as encode:
        image = pipeline()
    assert bool(encode.call_count) == any("image" in argument for argument in pipeline.arguments)
    assert np.isfinite(image).all()
    assert image.std() > 0.05
    np.testing.assert_allclose(image, build(tiny_vae(family, name, folded=True))(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "name"), [(family, name) for family in ("flux2", "ideogram4") for name in FAMILIES[family]]
)
def test_pipeline_gives_the_image_of_its_own_class_with_equal_weights(family, name):
    vae, build = tiny_vae(family, name, folded=False), FAMILIES[family][name]
    plain = vae.to_autoencoder_kl()
    assert type(plain) is diffusers.AutoencoderKLFlux2
    assert np.array_equal(build(vae)(), build(plain)())


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_pipeline_is_opened_with_the_same_autoencoder(family, tmp_path):
    name = next(reversed(FAMILIES[family]))
    pipeline = FAMILIES[family][name](tiny_vae(family, name, folded=False))
    pipeline.pipe.save_pretrained(tmp_path)
    absent = {name: None for name, part in pipeline.pipe.components.items() if part is None}
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path, **absent)
    assert type(loaded) is type(pipeline.pipe)
    assert type(loaded.vae) is AutoencoderVAE
    assert loaded.vae.config.pipeline_family == family
    assert list(loaded.vae.config.latents_std or []) == list(pipeline.pipe.vae.config.latents_std or [])
    for key, value in pipeline.pipe.vae.state_dict().items():
        assert torch.equal(loaded.vae.state_dict()[key], value), key
    if "encode_prompt" in vars(pipeline.pipe):
        loaded.encode_prompt = pipeline.pipe.encode_prompt
    again = TinyPipeline(loaded, pipeline.side, pipeline.arguments)
    np.testing.assert_allclose(again(), pipeline(), rtol=0, atol=1e-4)


def test_pipelines_that_are_named_are_run_here():
    named = {name for presentation in PRESENTATIONS.values() for name in presentation.pipelines}
    assert named == {name.partition(",")[0] for names in FAMILIES.values() for name in names}
