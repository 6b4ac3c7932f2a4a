"""Our classes open and write safetensors of their own class, and nothing else."""

import subprocess
import sys

import pytest
import torch
from diffusers import AutoencoderKL

from vae_plugin import AutoencoderVAE, AutoencoderVQVAE

SIZES = {"in_channels": 1, "block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": 16}
CLASSES = pytest.mark.parametrize("cls", [AutoencoderVAE, AutoencoderVQVAE])


@CLASSES
def test_a_pickle_is_refused_with_a_sentence(cls, tmp_path):
    model = cls(**SIZES)
    model.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "diffusion_pytorch_model.bin")
    cls.from_pretrained(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(OSError, match=r"pickle .* not opened"):
        cls.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="not opened"):
        cls.from_pretrained(tmp_path, use_safetensors=False)
    with pytest.raises(ValueError, match="not opened"):
        model.save_pretrained(tmp_path, safe_serialization=False)


def test_the_weights_of_another_class_are_refused(tmp_path):
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4).save_pretrained(tmp_path / "kl")
    AutoencoderVAE(**SIZES).save_pretrained(tmp_path / "vae")
    with pytest.raises(ValueError, match="configuration of an AutoencoderKL"):
        AutoencoderVAE.from_pretrained(tmp_path / "kl")
    with pytest.raises(ValueError, match="configuration of an AutoencoderVAE"):
        AutoencoderVQVAE.from_pretrained(tmp_path / "vae")


@CLASSES
def test_diffusers_push_is_not_reached(cls, tmp_path):
    model = cls(**SIZES)
    with pytest.raises(ValueError, match="push_to_hub"):
        model.save_pretrained(tmp_path, push_to_hub=True)
    for wrong in ({"safe_serialization": False}, {"variant": "fp16"}, {"subfolder": "vae"}):
        with pytest.raises(ValueError, match="not"):
            model.push_to_hub("user/vae", **wrong)


def test_what_push_to_hub_calls_is_handed_in_by_the_package(monkeypatch):
    given = []
    monkeypatch.setattr("vae_plugin.autoencoders.storage._publish", lambda *a, **k: given.append((a, k)) or "address")
    model = AutoencoderVAE(**SIZES)
    assert model.push_to_hub("user/vae", commit_message="Mine", private=True) == "address"
    settings = {"commit_message": "Mine", "private": True, "token": None, "create_pr": False}
    assert given == [((model, "user/vae"), settings)]


@pytest.mark.slow
def test_the_package_opens_models_without_the_client_of_the_hub():
    code = "import sys, vae_plugin; sys.exit(any(name.startswith('vae_plugin.hub') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
