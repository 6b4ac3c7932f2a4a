"""The autoencoders of Wan 2.1 and Qwen-Image in one file, there and back."""

import pytest
import torch
from diffusers import AutoencoderKLQwenImage, AutoencoderKLWan
from safetensors.torch import load_file, save_file

from support.tiny_diffusers import CAUSAL, decoded, latents
from vae_plugin.autoencoders import load_autoencoder
from vae_plugin.errors import UserError
from vae_plugin.export.single_file import foreign_to_other_tools, save_single_file

SHAPE = {
    **CAUSAL,
    "base_dim": 4,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "temperal_downsample": [False, True, True],
}
CLASSES = {cls.__name__: cls for cls in (AutoencoderKLWan, AutoencoderKLQwenImage)}


@pytest.fixture(scope="module", params=CLASSES)
def model(request):
    torch.manual_seed(0)
    return CLASSES[request.param](**SHAPE).eval()


def equal(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_what_is_written_is_read_by_diffusers_and_by_us(model, tmp_path):
    """diffusers reads files of Wan; those of Qwen-Image have the same names, which its class takes after Wan's."""
    save_single_file(model, tmp_path / "vae.safetensors")
    written = load_file(tmp_path / "vae.safetensors")
    assert {"conv1.weight", "decoder.middle.0.residual.0.gamma", "encoder.head.2.bias"} < written.keys()
    assert written["decoder.upsamples.4.shortcut.weight"].shape == (16, 8, 1, 1, 1)
    AutoencoderKLWan(**SHAPE).save_config(tmp_path / "config")
    opened = AutoencoderKLWan.from_single_file(str(tmp_path / "vae.safetensors"), config=str(tmp_path / "config"))
    assert equal(opened.state_dict(), model.state_dict())
    again = load_autoencoder(tmp_path / "vae.safetensors").to_saved()
    assert type(again) is type(model)
    assert equal(again.state_dict(), model.state_dict())


@pytest.mark.parametrize("names", ["original", "diffusers"])
def test_a_file_without_a_config(model, names, tmp_path, capsys):
    save_single_file(model, tmp_path / "vae.safetensors")
    state = load_file(tmp_path / "vae.safetensors") if names == "original" else model.state_dict()
    rest = {"model.diffusion_model.blocks.0.x": torch.zeros(1)}
    save_file({**{f"vae.{name}": value for name, value in state.items()}, **rest}, tmp_path / "bare.safetensors")
    opened = load_autoencoder(tmp_path / "bare.safetensors").to_saved()
    assert "have the same names. Give its config.json" in capsys.readouterr().err
    assert equal(opened.state_dict(), model.state_dict())
    assert {field: opened.config[field] for field in SHAPE} == SHAPE
    x = torch.rand(1, 3, 16, 16) * 2 - 1  # whichever of the two it is
    assert torch.equal(latents(opened, x), latents(model, x))
    assert torch.equal(decoded(opened, latents(model, x)[:, :4]), decoded(model, latents(model, x)[:, :4]))


def test_other_blocks_are_refused(tmp_path):
    torch.manual_seed(0)
    with pytest.raises(UserError, match=r"AutoencoderKLWan has num_res_blocks = 1 \(theirs 2\), and single files"):
        save_single_file(AutoencoderKLWan(**{**SHAPE, "num_res_blocks": 1}), tmp_path / "vae.safetensors")
    assert not list(tmp_path.iterdir())


def test_what_comfyui_can_load():
    with torch.device("meta"):
        assert foreign_to_other_tools(AutoencoderKLQwenImage()) == []
        model = AutoencoderKLWan(**SHAPE)
    assert foreign_to_other_tools(model) == ["z_dim = 4 (theirs 16)"]
