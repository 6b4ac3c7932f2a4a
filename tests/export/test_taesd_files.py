"""TAESD's files, loaded by TAESD's architecture as its repository has it."""

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file

from support.taesd_net import taesd
from support.tiny_exports import images, kl
from vae_plugin import AutoencoderTinyFlux2
from vae_plugin.cli import main
from vae_plugin.errors import UserError
from vae_plugin.export.taesd_files import save_taesd


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "channels", "cls"),
    [("taesd", 4, AutoencoderTiny), ("taef1", 16, AutoencoderTiny), ("taef2", 32, AutoencoderTinyFlux2)],
)
def test_taesd_loads_them(name, channels, cls, tmp_path):
    torch.manual_seed(0)
    model = cls(latent_channels=channels).eval()
    files = save_taesd(model, tmp_path / "out", name)
    assert files == [f"{name}_{part}.{ending}" for part in ("decoder", "encoder") for ending in ("pth", "safetensors")]
    encoder, decoder = taesd(channels, pooled=name == "taef2")
    for part, module in (("encoder", encoder), ("decoder", decoder)):
        state = load_file(tmp_path / "out" / f"{name}_{part}.safetensors")
        module.load_state_dict(state)
        pickled = torch.load(tmp_path / "out" / f"{name}_{part}.pth", weights_only=True)
        assert all(torch.equal(pickled[key], value) for key, value in state.items())
    x = images(2, height=16, width=24)
    z = encoder(x / 2 + 0.5)  # TAESD's images are in [0, 1]
    torch.testing.assert_close(z, model.encode(x).latents)
    torch.testing.assert_close(decoder(z) * 2 - 1, model.decode(z).sample)


def test_what_taesd_cannot_load_is_refused(tmp_path):
    narrow = AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4)
    scaled = AutoencoderTinyFlux2()
    scaled.bn.running_var.fill_(2)
    for model, name, sentence in (
        (kl(), "taesd", "hold a tiny autoencoder, not an AutoencoderKL"),
        (narrow, "taesd", r"encoder_block_out_channels = \(8, 8, 8, 8\) \(theirs \(64, 64, 64, 64\)\)"),
        (AutoencoderTiny(latent_channels=32), "taef2", r"as taef2: its class \(theirs AutoencoderTinyFlux2\)"),
        (AutoencoderTiny(scaling_factor=0.5), "taesd", "hold no scale of the latents"),
        (scaled, "taef2", "hold no scale of the latents"),
        (AutoencoderTiny(latent_channels=16), "taesdxl", r"as taesdxl: latent_channels = 16 \(theirs 4\)"),
    ):
        with pytest.raises(UserError, match=sentence):
            save_taesd(model, tmp_path / "out", name)
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path, capsys):
    AutoencoderTiny().save_pretrained(tmp_path / "tiny")
    words = ["export", str(tmp_path / "tiny"), str(tmp_path / "out"), "--format", "taesd"]
    assert main(words) != 0
    assert "needs --taesd_name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not main([*words, "--taesd_name", "taesdxl", "--dtype", "float16"])
    assert load_file(tmp_path / "out" / "taesdxl_decoder.safetensors")["1.weight"].dtype == torch.float16
    assert "models/vae_approx" in capsys.readouterr().out
