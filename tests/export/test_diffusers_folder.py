"""Folders of diffusers' own classes, opened by someone who does not have this package."""

import json
import subprocess
import sys

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, VQModel
from safetensors.torch import load_file, save_file

from support import HANGS
from support.tiny_exports import images, kl, vae, vqvae
from vae_plugin.errors import UserError
from vae_plugin.export import plain, save_diffusers_folder

STRANGER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "vae_plugin":
            raise ImportError("vae_plugin is not installed here")

sys.meta_path.insert(0, Blocker())
try:
    import vae_plugin
except ImportError:
    pass
else:
    sys.exit("the blocker does not block")

import diffusers, torch
from safetensors.torch import load_file, save_file

kl, vq, images, out = sys.argv[1:]
torch.set_num_threads(1)
x = load_file(images)["x"]
with torch.no_grad():
    results = {
        "kl": diffusers.AutoencoderKL.from_pretrained(kl)(x).sample,
        "auto": diffusers.AutoModel.from_pretrained(kl)(x).sample,
        "vq": diffusers.VQModel.from_pretrained(vq)(x).sample,
    }
assert "vae_plugin" not in sys.modules
save_file({name: value.contiguous() for name, value in results.items()}, out)
"""


@pytest.mark.slow
def test_a_stranger_opens_the_folders(tmp_path):
    model, discrete, x = vae(), vqvae(), images()
    assert save_diffusers_folder(model, tmp_path / "kl") is AutoencoderKL
    assert save_diffusers_folder(discrete, tmp_path / "vq") is VQModel
    save_file({"x": x}, tmp_path / "images.safetensors")
    arguments = [str(tmp_path / name) for name in ("kl", "vq", "images.safetensors", "results.safetensors")]
    finished = subprocess.run(
        [sys.executable, "-c", STRANGER, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=HANGS
    )
    assert finished.returncode == 0, finished.stderr
    results = load_file(tmp_path / "results.safetensors")
    with torch.no_grad():
        expected, expected_vq = model(x).sample, discrete(x).sample
    assert torch.equal(results["kl"], expected)
    assert torch.equal(results["auto"], expected)
    torch.testing.assert_close(results["vq"], expected_vq)
    config = json.loads((tmp_path / "kl" / "config.json").read_text())
    assert config["_class_name"] == "AutoencoderKL"
    assert (config["scaling_factor"], config["shift_factor"]) == (0.7, 0.1)


@pytest.mark.parametrize("make", [vae, kl, AutoencoderTiny])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_precision(make, dtype, tmp_path):
    model = make()
    cls = save_diffusers_folder(model, tmp_path / "out", dtype)
    assert model.dtype == torch.float32
    state = load_file(tmp_path / "out" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in state.values()} == {dtype}
    opened = cls.from_pretrained(tmp_path / "out", torch_dtype=dtype)
    for name, value in plain(model).state_dict().items():
        assert torch.equal(opened.state_dict()[name], value.to(dtype)), name


def test_what_diffusers_lacks_is_refused(tmp_path):
    for model, sentence in (
        (vae(network="mlp"), "AutoencoderVAE cannot become a class of diffusers: .* kind 'mlp'"),
        (vqvae(quantizer_type="fsq", fsq_levels=(4, 4)), "AutoencoderVQVAE cannot become .* a quantiser but"),
    ):
        with pytest.raises(UserError, match=sentence):
            save_diffusers_folder(model, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_other_files_stay(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"out is not empty: give another folder, or --overwrite"):
        save_diffusers_folder(vae(), folder)
    assert (folder / "config.json").read_text() == "{}"
    save_diffusers_folder(vae(), folder, overwrite=True)
    assert (folder / "thesis.txt").read_text() == "years of work"
    assert torch.equal(AutoencoderKL.from_pretrained(folder)(images()).sample, vae()(images()).sample)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    save_diffusers_folder(kl(), tmp_path / "out")
    assert (tmp_path / "out" / "config.json").is_file()
