"""The file that is named is the one that opens, with the config and the scale that belong to it."""

import hashlib
import json

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2
from safetensors.torch import load_file, save_file

from support.tiny_diffusers import tiny
from vae_plugin import AutoencoderVAE
from vae_plugin.autoencoders import load_autoencoder
from vae_plugin.autoencoders.families import kl_file
from vae_plugin.cli import main
from vae_plugin.errors import UserError
from vae_plugin.export.single_file import original_state, save_single_file

BLOCKS = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}


def kl(**changes):
    torch.manual_seed(0)
    return AutoencoderKL(**{"block_out_channels": (32, 32), "norm_num_groups": 32, **BLOCKS, **changes}).eval()


def equal(adapter, model):
    found, expected = adapter.to_saved().state_dict(), model.state_dict()
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def moved(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    return model


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("AutoencoderKL", "my-best.safetensors"),
        ("AutoencoderTiny", "diffusion_pytorch_model.fp16.safetensors"),
        ("VQModel", "LAST.SAFETENSORS"),
        ("AutoencoderVAE", "my-best.sft"),
    ],
)
def test_a_file_beside_the_model_of_its_folder(name, file, tmp_path):
    ours = {"in_channels": 1, "block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": 16}
    model = AutoencoderVAE(**ours) if name == "AutoencoderVAE" else tiny(name)
    model.save_pretrained(tmp_path)
    save_file({key: value.clone() for key, value in moved(model).state_dict().items()}, tmp_path / file)
    opened = load_autoencoder(str(tmp_path / file))
    assert equal(opened, model)
    assert not equal(load_autoencoder(str(tmp_path)), model)


def test_one_of_several_shards_is_refused(tmp_path):
    tiny("AutoencoderKL").save_pretrained(tmp_path, max_shard_size="20KB")
    shard = min(tmp_path.glob("*-00001-of-*.safetensors"))
    with pytest.raises(UserError, match="missing"):
        load_autoencoder(str(shard))


@pytest.mark.parametrize("name", ["x.ckpt", "x.PT", "x.bin"])
def test_a_pickle_is_refused(name, tmp_path):
    (tmp_path / name).write_bytes(b"\x80\x02.")
    with pytest.raises(UserError, match=r"pickle .* not opened.*convert"):
        load_autoencoder(str(tmp_path / name))


def test_an_export_of_ours_keeps_its_config(tmp_path, capsys):
    """Also beside the config.json of another model; the command says the same."""
    model = kl(scaling_factor=0.13025, shift_factor=0.25, latents_mean=(1.0,) * 4, latents_std=(2.0,) * 4)
    save_single_file(model, tmp_path / "own.safetensors")
    kl(scaling_factor=0.5).save_config(tmp_path)
    config = load_autoencoder(str(tmp_path / "own.safetensors")).config
    assert (config.scaling_factor, config.shift_factor, list(config.latents_std)) == (0.13025, 0.25, [2.0] * 4)
    assert capsys.readouterr().err == ""
    assert main(["export", str(tmp_path / "own.safetensors"), str(tmp_path / "folder")]) == 0
    assert json.loads((tmp_path / "folder" / "config.json").read_text())["scaling_factor"] == 0.13025
    given = load_autoencoder(str(tmp_path / "own.safetensors"), config=str(tmp_path)).config
    assert given.scaling_factor == 0.5


@pytest.mark.parametrize(
    ("rest", "prefix", "channels", "scaling", "words"),
    [
        (
            [],
            "",
            4,
            (0.18215, None),
            "is a guess, as of Stable Diffusion 1 and 2 (that of Stable Diffusion XL is 0.13025)",
        ),
        ([], "", 16, (0.3611, 0.1159), "is a guess, as of FLUX.1 (that of Stable Diffusion 3 is 1.5305)"),
        ([], "", 8, (1.0, None), "is a guess"),
        (["conditioner.embedders.0.x"], "first_stage_model.", 4, (0.13025, None), "Stable Diffusion XL, with"),
        (["cond_stage_model.x"], "first_stage_model.", 4, (0.18215, None), "Stable Diffusion 1 and 2, with"),
        (["model.diffusion_model.joint_blocks.0.x"], "first_stage_model.", 16, (1.5305, 0.0609), "Diffusion 3, with"),
        (["model.diffusion_model.double_blocks.0.x"], "vae.", 16, (0.3611, 0.1159), "FLUX.1, with"),
    ],
)
def test_a_file_without_a_config(rest, prefix, channels, scaling, words, tmp_path, capsys):
    model = kl(latent_channels=channels, use_quant_conv=channels != 16, layers_per_block=2)
    state = {prefix + name: value for name, value in original_state(model).items()}
    save_file({**state, **{name: torch.zeros(1) for name in rest}}, tmp_path / "file.safetensors")
    opened = load_autoencoder(str(tmp_path / "file.safetensors"))
    assert equal(opened, model)
    assert (opened.config.scaling_factor, opened.config.shift_factor) == scaling
    assert words in capsys.readouterr().err


def test_a_published_file_is_known_by_its_bytes(tmp_path, monkeypatch, capsys):
    file = tmp_path / "sdxl_vae.safetensors"
    save_file(original_state(kl()), file)
    data = file.read_bytes()
    known = {(len(data), hashlib.sha256(data).hexdigest()): kl_file.SDXL}
    monkeypatch.setattr(kl_file, "PUBLISHED", known)
    assert load_autoencoder(str(file)).config.scaling_factor == 0.13025
    assert "guess" not in capsys.readouterr().err


def test_the_names_of_diffusers_without_a_config_and_flux_2(tmp_path):
    model = kl(mid_block_add_attention=False)
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    assert equal(load_autoencoder(str(tmp_path / "a.safetensors")), model)
    flux2 = AutoencoderKLFlux2(block_out_channels=(32, 32), latent_channels=4, **BLOCKS)
    flux2.bn.running_mean.add_(3)
    save_file(original_state(flux2), tmp_path / "b.safetensors")
    assert equal(load_autoencoder(str(tmp_path / "b.safetensors")), flux2)


FAULTS = {
    "one unknown": (lambda s: {**s, "x.y": torch.zeros(1)}, "x.y unknown"),
    "one unknown in a block": (lambda s: {**s, "encoder.down.0.block.0.z": torch.zeros(1)}, "unknown"),
    "one missing": (
        lambda s: {n: v for n, v in s.items() if n != "decoder.mid.attn_1.q.weight"},
        "to_q.weight missing",
    ),
    "the decoder alone": (lambda s: {n: v for n, v in s.items() if "encoder" not in n}, "encoder.conv_in.weight"),
    "nothing": (lambda s: {}, "no weights|118 more missing"),
    "another shape": (
        lambda s: {**s, "decoder.conv_out.bias": torch.zeros(5)},
        "decoder.conv_out.bias of another shape",
    ),
    "nan": (lambda s: {**s, "quant_conv.bias": s["quant_conv.bias"] * float("nan")}, "quant_conv.bias"),
    "whole numbers": (
        lambda s: {**s, "quant_conv.bias": s["quant_conv.bias"].to(torch.int8)},
        "without floating-point",
    ),
    "something else": (lambda s: {"lora_unet.down.weight": torch.zeros(1)}, "lora_unet.down.weight"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_files_of_the_original_code_that_do_not_fit(fault, tmp_path, capsys):
    model = kl()
    model.save_config(tmp_path / "config")
    change, words = FAULTS[fault]
    save_file(change(original_state(model)), tmp_path / "file.safetensors")
    for config in (None, str(tmp_path / "config")):
        with pytest.raises(UserError, match=words) as error:
            load_autoencoder(str(tmp_path / "file.safetensors"), config=config)
        assert str(tmp_path / "file.safetensors") in str(error.value)
        assert "\n" not in str(error.value)
    assert capsys.readouterr().err == ""


def test_what_belongs_to_the_training_of_the_original_is_left_out(tmp_path):
    model = kl()
    state = {**original_state(model), "loss.logvar": torch.zeros(1)}
    save_file({f"module.{name}": value for name, value in state.items()}, tmp_path / "file.safetensors")
    assert equal(load_autoencoder(str(tmp_path / "file.safetensors")), model)


# --- variants and whole pipelines -----------------------------------------------------------------------------------


def test_a_variant(tmp_path, capsys):
    model = kl()
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"no model with the variant 'fp16' can be opened"):
        load_autoencoder(str(tmp_path), variant="fp16")
    moved(model).half().save_pretrained(tmp_path, variant="fp16")
    assert equal(load_autoencoder(str(tmp_path), variant="fp16"), model.float())
    assert main(["export", str(tmp_path), str(tmp_path / "out"), "--variant", "fp16"]) == 0
    exported = load_file(tmp_path / "out" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(exported["quant_conv.bias"], model.quant_conv.bias)
    assert main(["export", str(tmp_path), str(tmp_path / "no"), "--variant", "fp8"]) == 2
    assert "'fp8'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["vae", "movq", "vqvae"])
def test_of_a_whole_pipeline_its_autoencoder_is_opened_and_said(name, tmp_path, capsys):
    model = kl()
    model.save_pretrained(tmp_path / name)
    index = {"_class_name": "SomePipeline", "unet": ["diffusers", "UNet2DModel"], name: ["diffusers", "AutoencoderKL"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert equal(load_autoencoder(str(tmp_path)), model)
    assert f"{tmp_path} is a whole pipeline: its {name}, an AutoencoderKL, is opened." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"vae": ["diffusers", "AutoencoderKLMochi"]}, "AutoencoderKLMochi, which is not supported"),
        ({"unet": ["diffusers", "UNet2DModel"]}, "without an autoencoder"),
        ({"vae": [None, None]}, "without an autoencoder"),
        ({"vae": {"a": [1]}}, "without an autoencoder"),
        ([], "does not hold a JSON object"),
    ],
)
def test_a_pipeline_that_has_none(index, words, tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=words):
        load_autoencoder(str(tmp_path))
