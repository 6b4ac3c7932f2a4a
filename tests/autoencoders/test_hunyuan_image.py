"""`AutoencoderKLHunyuanImage` in its pipeline."""

import diffusers
import pytest
import torch

from support.tiny_diffusers import tiny
from vae_plugin.autoencoders import adapt, load_autoencoder, new_from_config
from vae_plugin.errors import UserError
from vae_plugin.training.statistics import LatentStatistics


def test_its_pipeline_decodes_the_latents_that_were_normalised(tmp_path):
    adapter = adapt(tiny("AutoencoderKLHunyuanImage", scaling_factor=None))
    images = [torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(i)) * 2 - 1 for i in range(2)]
    LatentStatistics(adapter, images).write()
    seen = torch.cat([adapter.pipeline_latents(adapter.posterior(x).sample()) for x in images])
    assert seen.square().mean().item() == pytest.approx(1, abs=0.1)
    adapter.save(tmp_path)

    vae = diffusers.AutoencoderKLHunyuanImage.from_pretrained(tmp_path)
    transformer = diffusers.HunyuanImageTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=8,
        rope_axes_dim=(4, 4),
    )
    pipe = diffusers.HunyuanImagePipeline(
        vae=vae,
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        **dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")),
    )
    pipe.set_progress_bar_config(disable=True)
    x = images[0][:1]
    with torch.no_grad():
        latents = adapter.pipeline_latents(adapter.latents(x))
        expected = adapter.reconstruct(x)
    image = pipe(
        height=16,
        width=16,
        num_inference_steps=1,
        prompt_embeds=torch.randn(1, 4, 8),
        prompt_embeds_mask=torch.ones(1, 4, dtype=torch.long),
        prompt_embeds_2=torch.zeros(1, 4, 8),
        prompt_embeds_mask_2=torch.ones(1, 4, dtype=torch.long),
        callback_on_step_end=lambda *_: {"latents": latents},  # as if they had been denoised
        output_type="pt",
    ).images
    torch.testing.assert_close(image, (expected / 2 + 0.5).clamp(0, 1))


def test_a_scaling_factor_that_is_left_open_is_no_mistake(tmp_path):
    tiny("AutoencoderKLHunyuanImage", scaling_factor=None).save_pretrained(tmp_path)
    adapter = load_autoencoder(str(tmp_path))
    assert adapter.latent_scaling() == {}
    z = torch.randn(1, 4, 2, 2)
    assert torch.equal(adapter.pipeline_latents(z), z)
    assert new_from_config(str(tmp_path)).config.scaling_factor is None


@pytest.mark.parametrize(("ratio", "actual"), [(3, 2), (4, 2), (32, 2)])
def test_a_ratio_that_the_levels_do_not_have_is_refused(ratio, actual):
    model = tiny("AutoencoderKLHunyuanImage", spatial_compression_ratio=ratio)
    assert model(torch.zeros(1, 3, 8, 8)).sample.shape == (1, 3, 8, 8)
    assert model.encode(torch.zeros(1, 3, 8, 8)).latent_dist.mean.shape[-1] == 8 // actual
    with pytest.raises(UserError, match=f"spatial_compression_ratio is {ratio}, and its network has {actual}:"):
        adapt(model)


def test_levels_that_do_not_reduce_the_image():
    adapter = adapt(tiny("AutoencoderKLHunyuanImage", block_out_channels=(32, 32, 32)))
    assert adapter.spatial_compression_ratio == 2
    with torch.no_grad():
        assert adapter.latents(torch.zeros(1, 3, 8, 8)).shape == adapter.latent_shape(1, 8, 8) == (1, 4, 4, 4)
