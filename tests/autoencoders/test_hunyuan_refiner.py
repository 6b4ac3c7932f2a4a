"""The autoencoder of HunyuanImage's refiner: trained on images, and back in its pipeline."""

import pytest
import torch
from diffusers import (
    AutoencoderKLHunyuanImageRefiner,
    FlowMatchEulerDiscreteScheduler,
    HunyuanImageRefinerPipeline,
    HunyuanImageTransformer2DModel,
)
from PIL import Image

from support.runs import options, smooth_photographs
from support.tiny_diffusers import tiny
from vae_plugin import finetune
from vae_plugin.autoencoders import adapt
from vae_plugin.datasets import load_images
from vae_plugin.errors import UserError

NAME = "AutoencoderKLHunyuanImageRefiner"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return smooth_photographs(tmp_path_factory.mktemp("photographs"), 24)


def run(photographs, folder, **changes):
    tiny(NAME).save_pretrained(folder / "source")
    settings = {"pretrained_model_name_or_path": str(folder / "source"), "train_data_dir": str(photographs)}
    settings |= {"max_train_steps": 2, "learning_rate": 1e-3, "num_validation_images": 2, "train_batch_size": 4}
    finetune.train(options(folder / "out", **settings, **changes))
    return folder / "out"


@pytest.fixture(scope="module")
def tuned(photographs, tmp_path_factory):
    return run(photographs, tmp_path_factory.mktemp("run"))


def pipeline(vae):
    torch.manual_seed(0)
    transformer = HunyuanImageTransformer2DModel(
        in_channels=16,  # the noise beside the image, each two frames of 4 channels
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=(1, 1, 1),
        guidance_embeds=True,
        text_embed_dim=8,
        rope_axes_dim=(4, 2, 2),
    )
    parts = {"vae": vae, "transformer": transformer, "scheduler": FlowMatchEulerDiscreteScheduler()}
    pipe = HunyuanImageRefinerPipeline(**parts, text_encoder=None, tokenizer=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_every_weight_is_trained(tuned):
    before = tiny(NAME).state_dict()
    after = AutoencoderKLHunyuanImageRefiner.from_pretrained(tuned, use_safetensors=True).state_dict()
    assert after.keys() == before.keys()
    for name, value in after.items():
        moved = (value != before[name]).flatten(0, 1) if value.ndim == 5 else value != before[name]
        assert moved.any(), name
        if value.ndim == 5:  # every tap in time meets the repeated frame
            assert moved.any(0).flatten(1).any(1).all(), name


@torch.no_grad()
def test_pipelines_see_latents_of_variance_1(tuned, photographs):
    pipe = pipeline(AutoencoderKLHunyuanImageRefiner.from_pretrained(tuned))
    data = load_images(train_data_dir=(str(photographs),), resolution=16, channels=3, center_crop=True)
    images = torch.stack([data[i]["pixel_values"] for i in range(len(data))])
    z = pipe._encode_vae_image(images[:, :, None], torch.Generator().manual_seed(0))
    assert z.shape == (len(data), 8, 1, 8, 8)
    assert z.square().mean().sqrt().item() == pytest.approx(1, abs=0.05)
    assert pipe.vae.config.scaling_factor != 1.03682


@torch.no_grad()
def test_its_pipeline_refines_with_it(tuned, tmp_path):
    vae = AutoencoderKLHunyuanImageRefiner.from_pretrained(tuned)
    pipeline(vae).save_pretrained(tmp_path)
    pipe = HunyuanImageRefinerPipeline.from_pretrained(tmp_path, text_encoder=None, tokenizer=None)
    pipe.set_progress_bar_config(disable=True)
    prompt = {"prompt_embeds": torch.rand(1, 4, 8), "prompt_embeds_mask": torch.ones(1, 4)}
    image = Image.new("RGB", (16, 16), (200, 40, 90))
    drawn = pipe(image=image, height=16, width=16, num_inference_steps=1, output_type="np", **prompt).images
    assert drawn.shape == (1, 16, 16, 3)
    other = pipeline(tiny(NAME)).vae.state_dict()
    assert any(not torch.equal(value, other[name]) for name, value in pipe.vae.state_dict().items())


@torch.no_grad()
def test_images_are_videos_of_one_frame_to_it():
    model = tiny(NAME)
    adapter, x = adapt(model), torch.rand(2, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(adapter.reconstruct(x), model(x[:, :, None]).sample[:, :, 0])
    torch.testing.assert_close(adapter.reconstruct(x[:, :, None]), adapter.reconstruct(x))
    with pytest.raises(UserError, match=r"5 frames were given, of shape \(2, 3, 5, 16, 16\).*works with images"):
        adapter.latents(x[:, :, None].expand(-1, -1, 5, -1, -1))


def test_it_is_trained_in_other_ways_too(photographs, tmp_path):
    ways = {"channels_last": True, "gradient_checkpointing": True, "use_ema": True, "train": "decoder"}
    out = run(photographs, tmp_path, **ways)
    before, after = tiny(NAME).state_dict(), AutoencoderKLHunyuanImageRefiner.from_pretrained(out).state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("encoder."))
    assert any(not torch.equal(after[name], before[name]) for name in before if name.startswith("decoder."))
