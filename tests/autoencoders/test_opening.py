"""Opening autoencoders by name: folders, single files, configurations."""

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import save_file

from support.original_names import names_of_stable_diffusion
from vae_plugin.autoencoders.loading import load_autoencoder, new_from_config
from vae_plugin.errors import UserError
from vae_plugin.files import FILLING


@pytest.fixture
def kl():
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
    ).eval()


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
@pytest.mark.parametrize("config", ["kl", "kl/config.json"])
def test_a_single_file(kl, prefix, config, tmp_path):
    kl.save_config(tmp_path / "kl")
    state = {prefix + name: value for name, value in names_of_stable_diffusion(kl).items()}
    if prefix:
        state["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(4, 4, 3, 3)
    save_file(state, tmp_path / "model.safetensors")
    opened = load_autoencoder(str(tmp_path / "model.safetensors"), config=str(tmp_path / config)).model
    assert type(opened) is AutoencoderKL
    assert opened.state_dict().keys() == kl.state_dict().keys()
    for name, value in kl.state_dict().items():
        assert torch.equal(opened.state_dict()[name], value), name


def test_a_file_of_something_else(kl, tmp_path):
    kl.save_config(tmp_path / "kl")
    save_file({"weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"do not fit AutoencoderKL: .* weight unknown to it"):
        load_autoencoder(str(tmp_path / "model.safetensors"), config=str(tmp_path / "kl"))


def test_a_file_that_belongs_to_a_folder_opens_that(kl, tmp_path):
    kl.save_pretrained(tmp_path)
    opened = load_autoencoder(str(tmp_path / "diffusion_pytorch_model.safetensors")).model
    assert torch.equal(opened.decoder.conv_out.weight, kl.decoder.conv_out.weight)


def test_a_class_without_single_files(tmp_path):
    AutoencoderTiny().save_config(tmp_path / "tiny")
    save_file({"encoder.down.0.block.0.conv1.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="AutoencoderTiny cannot be read from a single file"):
        load_autoencoder(str(tmp_path / "model.safetensors"), config=str(tmp_path / "tiny"))


def test_a_pipeline_says_where_its_autoencoder_is(kl, tmp_path):
    kl.save_pretrained(tmp_path / "vae")
    with pytest.raises(UserError, match="--subfolder vae"):
        load_autoencoder(str(tmp_path))
    assert type(load_autoencoder(str(tmp_path), "vae").model) is AutoencoderKL


def test_a_subfolder_of_a_model_is_opened_with_its_own_weights(kl, tmp_path):
    """As OUT/best is; diffusers' `from_pretrained` takes the weights of the folder above."""
    kl.save_pretrained(tmp_path)
    torch.nn.init.ones_(kl.decoder.conv_out.weight)
    kl.save_pretrained(tmp_path / "best")
    opened = load_autoencoder(str(tmp_path), "best").model
    assert torch.equal(opened.decoder.conv_out.weight, kl.decoder.conv_out.weight)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not valid JSON"),
        ("[]", "does not hold a JSON object"),
        ('{"_class_name": "UNet2DModel"}', "holds UNet2DModel, which is not supported"),
        (
            '{"_class_name": "AutoencoderKL", "latent_chanels": 4}',
            "has latent_chanels, which AutoencoderKL does not know",
        ),
        ('{"_class_name": "AutoencoderKL", "block_out_channels": [7]}', "AutoencoderKL cannot be built from"),
    ],
)
def test_a_configuration_that_cannot_be(content, words, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=words):
        new_from_config(str(tmp_path / "config.json"))


def test_what_a_local_model_does_not_have_is_refused(kl, tmp_path):
    kl.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"revision 'main' has no effect on the local folder .*: leave it out\.$"):
        load_autoencoder(str(tmp_path), revision="main")
    for given in ({"subfolder": "vae"}, {"revision": "main"}):
        with pytest.raises(UserError, match=r"has no effect on the single file .*: leave it out\.$"):
            load_autoencoder(str(tmp_path / "diffusion_pytorch_model.safetensors"), **given)


def test_a_result_that_a_killed_run_left_half_in_its_place_is_opened_as_a_whole(kl, tmp_path):
    """The config is in its place, the weights are on their way."""
    kl.save_pretrained(tmp_path)
    for parameter in kl.parameters():
        parameter.data.mul_(0.5)
    kl.save_pretrained(tmp_path / FILLING)
    (tmp_path / FILLING / "config.json").replace(tmp_path / "config.json")
    opened = load_autoencoder(str(tmp_path)).model.state_dict()
    for name, value in kl.state_dict().items():
        assert torch.equal(opened[name], value)
    assert not (tmp_path / FILLING).exists()
