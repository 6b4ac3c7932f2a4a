"""`AutoencoderVAE` as the autoencoder of pipelines that read another one than `AutoencoderKL`."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from vae_plugin import AutoencoderVAE
from vae_plugin.autoencoders import adapt
from vae_plugin.autoencoders.presentation import FAMILY_NAMES

STATISTICS = {"latents_mean": [0.1, 0.2, -0.3, 0.4], "latents_std": [0.5, 1.5, 2.0, 0.8]}
every_family = pytest.mark.parametrize("family", FAMILY_NAMES)


def tiny_vae(**config: object) -> AutoencoderVAE:
    torch.manual_seed(0)
    sizes = {"block_out_channels": (8, 16), "norm_num_groups": 4, "sample_size": 16, "layers_per_block": 1}
    return AutoencoderVAE(**{**sizes, **config}).eval()


@every_family
def test_family_is_one_field_that_is_saved_and_can_be_another_when_a_model_is_opened(family, tmp_path):
    plain = tiny_vae(**STATISTICS)
    plain.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    vae = AutoencoderVAE.from_pretrained(tmp_path, pipeline_family=family)
    assert vae.config.pipeline_family == family
    assert {
        name for name, value in vae.state_dict().items() if not torch.equal(value, plain.state_dict()[name])
    } == set()
    vae.save_pretrained(tmp_path)
    changed = json.loads((tmp_path / "config.json").read_text())
    assert changed.keys() - {"_name_or_path"} == saved.keys()
    assert [name for name in saved if saved[name] != changed[name]] == ["pipeline_family"]
    assert AutoencoderVAE.from_pretrained(tmp_path).config.pipeline_family == family


@every_family
def test_config_of_a_model_makes_an_equal_one_without_a_warning(family, caplog):
    vae = copy.deepcopy(tiny_vae(pipeline_family=family, scaling_factor=0.6, shift_factor=0.3))
    again = AutoencoderVAE.from_config(vae.config)
    unnoted = {"_use_default_values": None}
    assert {**again.config, **unnoted} == {**vae.config, **unnoted}
    assert "not expected" not in caplog.text


def test_batch_norm_normalises_patches_as_the_statistics_say():
    vae = tiny_vae(pipeline_family="flux2", **STATISTICS)
    z = torch.randn(2, 4, 6, 8)
    mean, std = (torch.tensor(STATISTICS[name]).view(1, 4, 1, 1) for name in ("latents_mean", "latents_std"))
    expected = torch.nn.functional.pixel_unshuffle((z - mean) / std, 2)
    torch.testing.assert_close(vae.bn(torch.nn.functional.pixel_unshuffle(z, 2)), expected)
    assert vae.bn.eps == vae.config.batch_norm_eps
    assert vae.to(torch.bfloat16).bn.running_mean.dtype == torch.bfloat16
    assert not any(name.startswith("bn.") for name in vae.state_dict())


def test_standardised_latents_need_no_batch_norm():
    vae = tiny_vae(pipeline_family="flux2")
    vae.standardize_latents(torch.tensor([1.0, 2, 3, 4]), torch.tensor([0.5, 1, 2, 3]))
    torch.testing.assert_close(vae.bn.running_mean, torch.zeros(16))
    torch.testing.assert_close(vae.bn.running_var + vae.config.batch_norm_eps, torch.ones(16))


def test_students_are_what_pipelines_take():
    students = {family: adapt(tiny_vae(pipeline_family=family)).student_class for family in FAMILY_NAMES}
    assert {family for family, name in students.items() if name == "AutoencoderTinyFlux2"} == {"flux2", "ideogram4"}


def test_video_of_one_frame_is_an_image_with_one_axis_more():
    vae = tiny_vae(pipeline_family="qwenimage")
    images = torch.rand(2, 3, 16, 18) * 2 - 1
    with torch.no_grad():
        flat, video = vae.encode(images).latent_dist, vae.encode(images.unsqueeze(2)).latent_dist
        assert torch.equal(video.mean, flat.mean.unsqueeze(2))
        assert torch.equal(vae.decode(video.mode()).sample, vae.decode(flat.mode()).sample.unsqueeze(2))
        assert torch.equal(vae(images.unsqueeze(2)).sample, vae(images).sample.unsqueeze(2))
    with pytest.raises(ValueError, match="one frame"):
        vae.encode(images.unsqueeze(2).repeat(1, 1, 2, 1, 1))
    with pytest.raises(ValueError, match="expected"):
        tiny_vae().encode(images.unsqueeze(2))


def test_other_models_have_none_of_it():
    vae = tiny_vae()
    for name in ("bn", "temperal_downsample"):
        assert not hasattr(vae, name)
    for name in ("z_dim", "batch_norm_eps", "temperal_downsample", "spatial_compression_ratio"):
        assert name not in vae.config
    assert not hasattr(vae.encode(torch.zeros(1, 3, 16, 16)), "latent")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"pipeline_family": "flux"}, "must be one of flux2, ideogram4"),
        ({"pipeline_family": "flux2", "network": "mlp"}, "Use network 'conv'"),
        ({"pipeline_family": "qwenimage", "sample_size": 18}, "a multiple of 4"),
    ],
)
def test_model_that_its_pipelines_could_not_use_is_refused(config, said):
    with pytest.raises(ValueError, match=said):
        tiny_vae(**config)


@every_family
@pytest.mark.parametrize("foldable", [True, False])
def test_statistics_are_written_where_the_pipelines_of_the_family_read_them(family, foldable):
    """By what pipelines see of the latents then: of each channel, of all of them, or by their scale alone."""
    adapter = adapt(tiny_vae(pipeline_family=family, use_post_quant_conv=foldable))
    before = adapter.decode(torch.ones(1, 4, 8, 8))
    mean, std = torch.tensor([1.0, 2, 3, 4]), torch.tensor([0.5, 1, 2, 3])
    adapter.write_latent_statistics(mean, std)
    if foldable:
        assert torch.equal(adapter.pipeline_latents(torch.ones(1, 4, 1, 1)), torch.ones(1, 4, 1, 1))
        after = adapter.decode((torch.ones(1, 4, 8, 8) - mean.view(1, 4, 1, 1)) / std.view(1, 4, 1, 1))
        torch.testing.assert_close(after, before, rtol=0, atol=1e-4)
        return
    assert torch.equal(adapter.decode(torch.ones(1, 4, 8, 8)), before)
    seen_mean, seen_std = adapter.pipeline_statistics(mean, std)
    if family in ("hunyuanimage", "sana"):
        assert adapter.latent_scaling().keys() == {"scaling_factor", "shift_factor"}
        torch.testing.assert_close((seen_std.square() + seen_mean.square()).mean(), torch.tensor(1.0))
        torch.testing.assert_close(seen_mean / seen_std, mean / std)
    else:
        torch.testing.assert_close(seen_mean, torch.zeros(4), rtol=0, atol=1e-5)
        torch.testing.assert_close(seen_std, torch.ones(4))


def test_class_of_diffusers_is_that_of_the_family_or_there_is_none():
    flux2 = tiny_vae(pipeline_family="flux2").to_autoencoder_kl()
    assert type(flux2).__name__ == "AutoencoderKLFlux2"
    narrower = tiny_vae(pipeline_family="flux2", decoder_block_out_channels=(4, 8)).to_autoencoder_kl()
    assert list(narrower.config.decoder_block_out_channels) == [4, 8]
    for family in ("qwenimage", "hunyuanimage", "sana"):
        with pytest.raises(ValueError, match="another architecture"):
            tiny_vae(pipeline_family=family).to_autoencoder_kl()
