"""Names of latents in the config of any model: files and conversions keep them, and what are no names is refused."""

import json

import pytest
import torch
from diffusers import AutoencoderKL

from support.tiny_diffusers import tiny
from vae_plugin import AutoencoderVAE
from vae_plugin.autoencoders import load_autoencoder
from vae_plugin.autoencoders.latent_names import recorded_names
from vae_plugin.cli import main
from vae_plugin.errors import UserError

NAMES = ["x", "y", "radius", "hue"]


def named():
    model = tiny("AutoencoderKL")
    model.register_to_config(_latent_names=NAMES)
    return model


def test_they_are_saved_and_read_and_converted(tmp_path):
    model = named()
    model.save_pretrained(tmp_path / "kl")
    assert json.loads((tmp_path / "kl" / "config.json").read_text())["_latent_names"] == NAMES
    opened = load_autoencoder(str(tmp_path / "kl")).model
    ours = AutoencoderVAE.from_autoencoder_kl(opened)
    back = ours.to_autoencoder_kl()
    assert isinstance(back, AutoencoderKL)
    for each in (opened, ours, back):
        assert recorded_names(each.config) == tuple(NAMES)
    ours.save_pretrained(tmp_path / "ours")
    assert recorded_names(AutoencoderVAE.from_pretrained(tmp_path / "ours").config) == tuple(NAMES)
    assert torch.equal(next(back.parameters()), next(model.parameters()))


def test_a_further_fine_tune_keeps_them(tmp_path):
    named().save_pretrained(tmp_path / "base")
    words = "--circles_length 8 --max_train_steps 1 --train_batch_size 2 --num_validation_images 2 --lr_warmup_steps 0"
    words += f" --dataset_name circles --circles_hue --resolution 16 --output_dir {tmp_path / 'next'}"
    assert main(["finetune", "--pretrained_model_name_or_path", str(tmp_path / "base"), *words.split()]) == 0
    assert json.loads((tmp_path / "next" / "config.json").read_text())["_latent_names"] == NAMES


@pytest.mark.parametrize("wrong", [7, "x", ["x", 2], ["x", " "], ["x", "x"], {"x": 1}])
def test_what_are_no_names(wrong, tmp_path):
    named().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "_latent_names": wrong}))
    with pytest.raises(UserError, match="_latent_names is") as raised:
        load_autoencoder(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_a_model_without_names():
    assert recorded_names(tiny("AutoencoderKL").config) is None
