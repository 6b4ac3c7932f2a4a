"""A decoder of other widths for latents that stay."""

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2
from safetensors.torch import load_file, save_file

from support.tiny_diffusers import BY_NAME, latents, tiny
from vae_plugin import AutoencoderVAE
from vae_plugin.autoencoders import adapt, load_autoencoder
from vae_plugin.errors import UserError
from vae_plugin.export.single_file import foreign_to_other_tools, save_single_file

WITH_WIDTHS = {
    "AutoencoderKL": "AutoencoderVAE",
    "AutoencoderKLFlux2": "AutoencoderKLFlux2",
    "AutoencoderVAE": "AutoencoderVAE",
}


def made(name):
    if name != "AutoencoderVAE":
        return tiny(name)
    torch.manual_seed(0)
    fields = {"block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": 16, "scaling_factor": 0.3}
    return AutoencoderVAE(**fields, likelihood="laplace", sigma="learned").eval()


@pytest.mark.parametrize("name", WITH_WIDTHS)
def test_the_latents_stay_and_the_decoder_has_the_widths(name, tmp_path):
    model, x = made(name), torch.rand(2, 3, 16, 16) * 2 - 1
    before = {key: value.clone() for key, value in model.state_dict().items()}
    adapter = adapt(model).with_decoder((4, 8))
    assert adapter.class_name == WITH_WIDTHS[name]
    adapter.save(tmp_path)
    again = load_autoencoder(str(tmp_path)).model
    assert torch.equal(latents(again, x), latents(model, x))
    for key, value in before.items():
        assert torch.equal(model.state_dict()[key], value), "the model itself changed"
        if not key.startswith("decoder."):
            assert torch.equal(again.state_dict()[key], value), key
    for field in {"scaling_factor", "sample_size", "likelihood", "sigma", "latents_mean"} & model.config.keys():
        assert again.config[field] == model.config[field]
    expected = AutoencoderKLFlux2(  # of diffusers, which has such decoders
        **{**model.config, "decoder_block_out_channels": (4, 8), "up_block_types": ("UpDecoderBlock2D",) * 2,
           "down_block_types": ("DownEncoderBlock2D",) * 2}
    ).decoder.state_dict() if name == "AutoencoderKLFlux2" else AutoencoderKL(
        block_out_channels=(4, 8), norm_num_groups=4, layers_per_block=1, up_block_types=("UpDecoderBlock2D",) * 2,
        down_block_types=("DownEncoderBlock2D",) * 2,
    ).decoder.state_dict()  # fmt: skip
    found = again.decoder.state_dict()
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in expected.items()}
    assert again.decode(torch.randn(1, 4, 8, 8)).sample.shape == (1, 3, 16, 16)
    assert torch.equal(found["conv_in.weight"], before["decoder.conv_in.weight"])  # it begins with the first channels
    torch.testing.assert_close(found["conv_out.weight"], before["decoder.conv_out.weight"][:, :4] * 2**0.5)
    wider = adapt(model).with_decoder((8, 12)).model.decoder
    assert torch.equal(wider.conv_out.weight, model.decoder.conv_out.weight)
    assert wider.conv_in.weight.shape[0] == 12


@pytest.mark.parametrize("name", sorted(BY_NAME.keys() - WITH_WIDTHS.keys()))
def test_other_classes_refuse(name):
    with pytest.raises(UserError, match=f"{name} has no decoder of other widths. Give a --teacher of another class"):
        adapt(tiny(name)).with_decoder((4, 8))


@pytest.mark.parametrize("name", WITH_WIDTHS)
@pytest.mark.parametrize("widths", [(8,), (8, 8, 8), (4, 6), (4, 0)])
def test_widths_that_fit_no_decoder_are_refused(name, widths):
    with pytest.raises(UserError, match=r"is [\d ]+: give 2 number\(s\).*multiples of norm_num_groups \(4\)"):
        adapt(made(name)).with_decoder(widths)


@pytest.mark.parametrize("name", WITH_WIDTHS)
def test_the_padding_of_the_convolutions_stays(name):
    adapter, x = adapt(made(name)), torch.rand(1, 3, 16, 16) * 2 - 1
    adapter.set_padding_mode("reflect")
    new = adapter.with_decoder((4, 8))
    assert torch.equal(latents(new.model, x), latents(adapter.model, x))
    assert new.model.decoder.conv_in.padding_mode == "reflect"
    assert new.config["_padding_mode"] == "reflect"


@pytest.mark.parametrize("name", WITH_WIDTHS)
def test_a_new_decoder_is_where_the_model_is(name):
    adapter = adapt(made(name).to("meta"))
    assert all(p.device.type == "meta" for p in adapter.with_decoder((8, 12)).model.parameters())


def test_what_cannot_become_ours_is_refused():
    with pytest.raises(UserError, match="--decoder_block_out_channels: this AutoencoderKL makes 4 channels of 3"):
        adapt(tiny("AutoencoderKL", out_channels=4)).with_decoder((4, 4))
    with pytest.raises(UserError, match="an mlp has no such widths"):
        adapt(AutoencoderVAE(network="mlp", sample_size=8)).with_decoder((4, 4))


def test_a_new_model_of_two_widths_is_no_autoencoder_kl(tmp_path):
    fields = {"block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": 16}
    model = AutoencoderVAE(**fields, decoder_block_out_channels=(4, 4))
    assert model.decoder.conv_in.out_channels == 4
    with pytest.raises(ValueError, match="an AutoencoderKL cannot have a decoder of other widths than its encoder"):
        model.to_autoencoder_kl()
    model.save_pretrained(tmp_path)
    with pytest.raises((TypeError, ValueError)):  # by itself it does not take the folder for its own, either
        AutoencoderKL.from_pretrained(tmp_path)
    same = AutoencoderVAE(**fields, decoder_block_out_channels=(8, 8))
    assert same.to_autoencoder_kl().config.block_out_channels == (8, 8)
    with pytest.raises(ValueError, match=r"decoder_block_out_channels is 4: give 2 number"):
        AutoencoderVAE(**fields, decoder_block_out_channels=(4,))


@pytest.mark.parametrize("scale", ["gaussian", "laplace"])
def test_one_file_holds_it_and_comfyui_can_read_it(scale, tmp_path):
    """An AutoencoderKL with another decoder has no class in diffusers, but a place in ComfyUI's folder."""
    torch.manual_seed(0)
    fields = {"block_out_channels": (32, 64), "norm_num_groups": 32, "sample_size": 16, "likelihood": scale}
    model = adapt(AutoencoderVAE(**fields, sigma="learned")).with_decoder((32, 32)).model
    save_single_file(model, tmp_path / "vae.safetensors")
    state = load_file(tmp_path / "vae.safetensors")
    assert state["decoder.conv_in.weight"].shape[:2] == (32, model.config.latent_channels)
    assert state["decoder.mid.attn_1.q.weight"].shape == (32, 32, 1, 1)
    again = load_autoencoder(tmp_path / "vae.safetensors").model
    assert type(again) is AutoencoderVAE
    assert again.config.likelihood == scale
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    # Without our metadata, and without the scale of the likelihood, as another tool would write it.
    bare = {key: value for key, value in state.items() if not key.startswith("likelihood.")}
    save_file(bare, tmp_path / "bare.safetensors")
    opened = load_autoencoder(tmp_path / "bare.safetensors").model
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.equal(latents(opened, x), latents(model, x))
    assert torch.equal(opened.decode(latents(model, x)[:, :4]).sample, model.decode(latents(model, x)[:, :4]).sample)


def test_what_comfyui_builds_of_it():
    shape = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "norm_num_groups": 32}
    with torch.device("meta"):
        model = AutoencoderVAE(**shape, decoder_block_out_channels=(96, 192, 384, 384))
        other = AutoencoderVAE(**shape, decoder_block_out_channels=(64, 64, 64, 64))
    assert foreign_to_other_tools(model) == []
    assert [entry.split(" = ")[0] for entry in foreign_to_other_tools(other)] == ["decoder_block_out_channels"]


def test_channels_that_are_refused_are_called_by_the_field_that_gave_them():
    with pytest.raises(ValueError, match=r"^block_out_channels is 8 16: give 2 number"):
        AutoencoderVAE(block_out_channels=(8, 16), norm_num_groups=16)
