"""The single module that `trust_remote_code` loads, where this package is not installed."""

import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from support import HANGS
from support.tiny_exports import images, kl, vae, vqvae
from vae_plugin.cli import main
from vae_plugin.export.remote_code import single_module

LOAD = """
import sys
sys.modules["vae_plugin"] = None
import torch
from diffusers import AutoModel
from safetensors.torch import load_file, save_file
folder = sys.argv[1]
model = AutoModel.from_pretrained(folder, trust_remote_code=True, use_safetensors=True)
x = load_file(folder + "/images.safetensors")["x"]
q = model.encode(x).latent_dist
save_file(
    {"z": q.mode().contiguous(), "x": model.decode(q.mode()).sample.contiguous(), "elbo": model.elbo(x)},
    folder + "/results.safetensors",
)
try:
    model.push_to_hub("user/vae")
except ValueError as error:
    print(error)
"""


MLP = {"network": "mlp", "likelihood": "bernoulli", "sample_size": (16, 24)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "changes"),
    [
        pytest.param(vae, {}, marks=pytest.mark.slow),
        pytest.param(vae, MLP, marks=pytest.mark.slow),
        pytest.param(vqvae, {}, marks=pytest.mark.slow),
        (vqvae, {"quantizer_type": "rvq"}),
    ],
)
def test_it_does_what_the_package_does(make, changes, tmp_path):
    model = make(**changes)
    x = images()
    model.save_pretrained(tmp_path / "source")
    words = ["--pretrained_model_name_or_path", str(tmp_path / "source"), "--format", "remote_code"]
    assert main(["export", *words, "--output", str(tmp_path / "out")]) == 0
    save_file({"x": x}, tmp_path / "out" / "images.safetensors")
    command = [sys.executable, "-c", LOAD, str(tmp_path / "out")]
    environment = {"HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PATH": ""}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANGS)
    assert result.returncode == 0, result.stderr
    # Publishing is the package's, which is not there.
    assert result.stdout == "push_to_hub needs vae-plugin: install it, and load the model with its own class.\n"
    found = load_file(tmp_path / "out" / "results.safetensors")
    torch.set_num_threads(1)
    with torch.no_grad():
        q = model.encode(x).latent_dist
        torch.testing.assert_close(found["z"], q.mode(), rtol=0, atol=1e-6)
        torch.testing.assert_close(found["x"], model.decode(q.mode()).sample, rtol=0, atol=1e-6)
    assert found["elbo"].shape == (len(x),)
    assert isinstance(type(model).from_pretrained(tmp_path / "out"), type(model))  # the package opens it as before


@pytest.mark.parametrize("name", ["AutoencoderVAE", "AutoencoderVQVAE"])
def test_every_name_in_it_is_defined_once(name, tmp_path):
    file = tmp_path / "module.py"
    file.write_text(single_module(name))
    lines = file.read_text().splitlines()
    assert not [line for line in lines if line.lstrip().startswith(("from .", "from vae_plugin", "import vae_plugin"))]
    # F401, F811 (imports that come twice) are harmless here; an undefined name or a second definition is not.
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821,F822,F823", str(file)]
    found = subprocess.run(command, capture_output=True, text=True).stdout
    assert [line for line in found.splitlines() if line.startswith("F") and "Autoencoder" not in line] == []
    defined = [line.split("(")[0].split(":")[0] for line in lines if line.startswith(("class ", "def "))]
    defined += [name[1] for name in (re.match(r"([A-Z]\w*)(?:: .+?)? = ", line) for line in lines) if name]
    assert sorted(defined) == sorted(set(defined))


def test_a_class_that_diffusers_has_needs_none(tmp_path, capsys):
    kl().save_pretrained(tmp_path / "kl")
    words = ["--pretrained_model_name_or_path", str(tmp_path / "kl"), "--format", "remote_code"]
    assert main(["export", *words, "--output", str(tmp_path / "out")]) == 2
    assert "needs no code" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
