"""FLUX.2's autoencoder in one file, under the names of its own code and of diffusers, there and back."""

import json

import pytest
import torch
from diffusers import AutoencoderKLFlux2
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from support.original_names import names_of_flux2
from support.tiny_diffusers import LEVELS
from vae_plugin.autoencoders import adapt, load_autoencoder
from vae_plugin.cli import main
from vae_plugin.errors import UserError
from vae_plugin.export.single_file import foreign_to_other_tools, save_single_file

ENCODER, SMALL = [32, 64], [32, 32]
DENOISER = {"model.diffusion_model.double_blocks.0.img_mod.lin.weight": torch.zeros(1)}


def flux2(**changes):
    torch.manual_seed(0)
    shape = {**LEVELS, "block_out_channels": ENCODER, "norm_num_groups": 32, "layers_per_block": 1}
    model = AutoencoderKLFlux2(**{**shape, "latent_channels": 4, **changes}).eval()
    model.bn.running_mean.normal_()
    model.bn.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture(scope="module", params=[None, SMALL], ids=["one width", "small decoder"])
def model(request):
    return flux2(decoder_block_out_channels=request.param)


def to_the_bit(found, expected):
    found = {name: value for name, value in found.items() if "num_batches_tracked" not in name}
    expected = {name: value for name, value in expected.items() if "num_batches_tracked" not in name}
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("names", ["original", "diffusers"])
@pytest.mark.parametrize(("prefix", "rest"), [("", {}), ("vae.", DENOISER), ("first_stage_model.", DENOISER)])
def test_a_file_without_a_config(model, names, prefix, rest, tmp_path, capsys):
    file = tmp_path / "flux2-vae.safetensors"
    state = names_of_flux2(model) if names == "original" else model.state_dict()
    if rest:  # some files have it, and torch does without
        state = {name: value for name, value in state.items() if "num_batches_tracked" not in name}
    save_file({**{prefix + name: value for name, value in state.items()}, **rest}, file)
    opened = load_autoencoder(file).model
    assert type(opened) is AutoencoderKLFlux2
    assert to_the_bit(opened.state_dict(), model.state_dict())
    fields = set(model.config) - {"sample_size", "_name_or_path", "_use_default_values"}
    for field in fields:
        ours, theirs = opened.config[field], model.config[field]
        assert (list(ours) if isinstance(ours, tuple) else ours) == (
            list(theirs) if isinstance(theirs, tuple) else theirs
        ), field
    said = capsys.readouterr().err
    assert "is read as the autoencoder of FLUX.2" in said
    assert ("with a decoder of other widths (32 32)" in said) == (model.config.decoder_block_out_channels == SMALL)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(model, dtype, tmp_path):
    halves = {n: v.to(dtype) if v.is_floating_point() else v for n, v in names_of_flux2(model).items()}
    save_file(halves, tmp_path / "half.safetensors")
    opened = load_autoencoder(tmp_path / "half.safetensors").model
    assert opened.dtype == torch.float32
    assert torch.equal(opened.bn.running_mean, model.bn.running_mean.to(dtype).float())
    assert torch.equal(opened.quant_conv.weight, model.quant_conv.weight.to(dtype).float())
    save_single_file(opened, tmp_path / "again.safetensors", dtype=dtype)
    again = load_file(tmp_path / "again.safetensors")
    assert again.keys() == halves.keys()
    assert all(torch.equal(again[name], value) and again[name].dtype == value.dtype for name, value in halves.items())


@pytest.mark.parametrize("prefix", [False, "vae"])
def test_what_is_written_has_the_original_names_and_comes_back(model, prefix, tmp_path):
    file = tmp_path / "out.safetensors"
    save_single_file(model, file, prefix)
    start = f"{prefix}." if prefix else ""
    written = load_file(file)
    original = {start + name: value for name, value in names_of_flux2(model).items()}
    assert written.keys() == original.keys()
    assert all(torch.equal(written[name], value) for name, value in original.items())
    # The converter of diffusers, which knows those of the 1x1 convolutions outside and no statistics.
    outside = {
        name.removeprefix(start).replace("encoder.quant", "quant").replace("decoder.post_quant", "post_quant"): value
        for name, value in written.items()
    }
    converted = convert_ldm_vae_checkpoint(dict(outside), model.config)
    converted |= {name: value for name, value in outside.items() if name.startswith("bn.")}
    assert to_the_bit(converted, model.state_dict())
    assert to_the_bit(load_autoencoder(file).model.state_dict(), model.state_dict())


def test_its_own_config_is_in_the_metadata(tmp_path):
    model = flux2(batch_norm_eps=1e-3, decoder_block_out_channels=SMALL)
    file = tmp_path / "out.safetensors"
    save_single_file(model, file)
    assert load_autoencoder(file).config.batch_norm_eps == 1e-3
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert metadata["layout"] == "FLUX.2, keys of the VAE alone"
    assert json.loads(metadata["config"])["decoder_block_out_channels"] == SMALL


def test_how_it_pads_is_in_the_metadata_and_said(tmp_path, capsys):
    model = flux2()
    adapt(model).set_padding_mode("reflect")
    model.save_pretrained(tmp_path / "model")
    file = tmp_path / "out.safetensors"
    assert main(["export", str(tmp_path / "model"), str(file), "--format", "single_file"]) == 0
    assert "Its convolutions pad by reflect" in capsys.readouterr().out
    opened = load_autoencoder(file).model
    assert {conv.padding_mode for conv in opened.modules() if isinstance(conv, torch.nn.Conv2d)} >= {"reflect"}
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(opened(x).sample, model(x).sample)


def test_the_command_writes_it_and_opens_it(model, tmp_path, capsys):
    model.save_pretrained(tmp_path / "model")
    file = str(tmp_path / "out.safetensors")
    assert main(["export", str(tmp_path / "model"), file, "--format", "single_file", "--prefix", "vae"]) == 0
    printed = capsys.readouterr().out
    assert "uses the names of FLUX.2" in printed
    assert "ComfyUI builds FLUX.2's architecture and cannot load this one: block_out_channels" in printed
    reads = hasattr(AutoencoderKLFlux2, "from_single_file") and "AutoencoderKLFlux2.from_single_file" in printed
    assert reads or "diffusers reads no AutoencoderKLFlux2 from a file" in printed
    assert main(["export", file, str(tmp_path / "folder")]) == 0
    assert to_the_bit(AutoencoderKLFlux2.from_pretrained(tmp_path / "folder").state_dict(), model.state_dict())


WRONG = {
    "no variance": (lambda s: {n: v for n, v in s.items() if n != "bn.running_var"}, r"bn\.running_var missing"),
    "statistics of another grid": (lambda s: {**s, "bn.running_var": torch.ones(4)}, "bn.running_var of another shape"),
    "one more": (lambda s: {**s, "decoder.up.0.block.0.z": torch.zeros(1)}, "unknown to it"),
    "two of a kind": (lambda s: {**s, "quant_conv.bias": torch.zeros(8)}, "quant_conv.bias unknown to it"),
    "a level less in the decoder": (lambda s: {n: v for n, v in s.items() if ".up.1." not in n}, "missing"),
    "its decoder alone": (
        lambda s: {n.removeprefix("decoder."): v for n, v in s.items() if n.startswith("decoder.")},
        r"a decoder without its encoder \(.*encoder\.conv_in\.weight",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_files_that_do_not_fit(fault, tmp_path):
    change, words = WRONG[fault]
    save_file(change(names_of_flux2(flux2())), tmp_path / "file.safetensors")
    with pytest.raises(UserError, match=words) as error:
        load_autoencoder(tmp_path / "file.safetensors")
    assert str(tmp_path / "file.safetensors") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "foreign"),
    [
        ({}, []),
        ({"decoder_block_out_channels": (96, 192, 384, 384)}, []),
        ({"decoder_block_out_channels": (64, 64, 64, 64)}, ["decoder_block_out_channels"]),
        ({"batch_norm_eps": 1e-5, "use_quant_conv": False}, ["use_quant_conv", "batch_norm_eps"]),
    ],
)
def test_what_comfyui_can_load(changes, foreign):
    """The published two, of which the second is the one with the small decoder."""
    with torch.device("meta"):
        model = AutoencoderKLFlux2(**changes)
    assert [entry.split(" = ")[0] for entry in foreign_to_other_tools(model)] == foreign
