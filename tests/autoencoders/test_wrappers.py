"""Models in the wrappers of torch and accelerate, and what of them is saved."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file

from support.tiny_diffusers import tiny
from vae_plugin import AutoencoderVAE, AutoencoderVQVAE
from vae_plugin.autoencoders import adapt
from vae_plugin.errors import UserError
from vae_plugin.export import save_diffusers_folder, save_single_file
from vae_plugin.export.taesd_files import save_taesd
from vae_plugin.metrics import evaluate
from vae_plugin.widgets.codec import open_model

SMALL = {"in_channels": 1, "block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": 16}


def in_wrappers(model):
    """The model as torch and accelerate hand it around; nothing is compiled before the first call."""
    compiled = torch.compile(model)
    return {
        "compiled": compiled,
        "DataParallel": torch.nn.DataParallel(model),
        "compiled, DataParallel": torch.nn.DataParallel(compiled),
        "DataParallel, compiled": torch.compile(torch.nn.DataParallel(model)),
    }


@pytest.mark.parametrize("name", ["AutoencoderVAE", "AutoencoderKL"])
def test_a_model_is_found_in_its_wrapper(name, tmp_path):
    model = AutoencoderVAE(**SMALL).eval() if name == "AutoencoderVAE" else tiny(name)
    for wrapped in in_wrappers(model).values():
        assert adapt(wrapped).model is model
    model.compile()
    assert adapt(model).model is model


def test_a_compiled_model_keeps_its_elbo_and_its_names(tmp_path):
    model = AutoencoderVAE(**SMALL).eval()
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = evaluate(model, [x])
    wrapped = torch.compile(model, backend="eager")
    assert evaluate(wrapped, [x])["elbo_nats"] == expected["elbo_nats"]
    assert open_model(SimpleNamespace(movq=wrapped)).model is model

    names = set(model.state_dict())
    model.encoder = torch.compile(model.encoder, backend="eager")
    assert set(model.state_dict()) != names
    adapt(model).save(tmp_path / "adapter")
    model.save_pretrained(tmp_path / "model")
    assert model.encoder is not model.encoder._orig_mod  # as it was
    for folder in ("adapter", "model"):
        assert set(load_file(tmp_path / folder / "diffusion_pytorch_model.safetensors")) == names


@pytest.mark.parametrize("name", ["AutoencoderVAE", "AutoencoderVQVAE", "AutoencoderKL", "VQModel", "AutoencoderTiny"])
def test_a_model_whose_parts_are_compiled_is_converted_and_exported_as_any_other(name, tmp_path):
    """Other tools would not find a weight under the name of a wrapper, and diffusers only some."""
    written = {}
    for kind in ("plain", "compiled"):
        model = {"AutoencoderVAE": AutoencoderVAE, "AutoencoderVQVAE": AutoencoderVQVAE}.get(
            name, lambda **_: tiny(name)
        )
        model = model(**SMALL) if name != "AutoencoderTiny" else AutoencoderTiny()
        if kind == "compiled":
            model.encoder, model.decoder = (torch.compile(part) for part in (model.encoder, model.decoder))
        folder = tmp_path / kind
        save_diffusers_folder(model, folder)
        if name in ("AutoencoderVAE", "AutoencoderKL"):
            save_single_file(model, folder / "vae.safetensors")
        if name == "AutoencoderTiny":
            save_taesd(model, folder / "taesd", "taesd")
        files = folder.rglob("*.safetensors")
        written[kind] = {file.relative_to(folder): set(load_file(file)) for file in files}
    assert written["compiled"] == written["plain"]


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    for model in (AutoencoderVAE(**SMALL), tiny("AutoencoderKL")):
        torch.nn.init.constant_(model.encoder.conv_in.weight, float("nan"))
        with pytest.raises(UserError, match=r"encoder\.conv_in\.weight"):
            adapt(model).save(tmp_path / "out")
        assert not (tmp_path / "out").exists()
