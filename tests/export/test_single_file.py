"""Single files with the names of latent diffusion, there and back."""

import json

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors import safe_open

from support.tiny_exports import images, kl, vae
from vae_plugin.autoencoders.loading import load_autoencoder
from vae_plugin.errors import UserError
from vae_plugin.export import save_single_file
from vae_plugin.export.single_file import foreign_to_other_tools, original_state

CONFIGS = {
    "default": {},
    "two layers": {"layers_per_block": 2},
    "one 1x1 convolution": {"use_quant_conv": False, "latent_channels": 6},
    "no attention": {"mid_block_add_attention": False, "in_channels": 1, "out_channels": 1},
    "one level": {
        "block_out_channels": (8,),
        "down_block_types": ("DownEncoderBlock2D",),
        "up_block_types": ("UpDecoderBlock2D",),
    },
}


def names(file):
    with safe_open(file, "pt") as opened:
        return set(opened.keys())


@pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in CONFIGS.items()])
@pytest.mark.parametrize("prefix", [False, True], ids=["bare", "prefix"])
def test_diffusers_reads_what_was_written(config, prefix, tmp_path):
    model = kl(**config)
    model.save_config(tmp_path / "config")
    save_single_file(model, tmp_path / "vae.safetensors", prefix)
    opened = AutoencoderKL.from_single_file(str(tmp_path / "vae.safetensors"), config=str(tmp_path / "config"))
    assert opened.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(opened.state_dict()[name], value), name
    x = images(channels=model.config.in_channels)
    assert torch.equal(opened(x).sample, model(x).sample)
    assert all(name.startswith("first_stage_model.") == prefix for name in names(tmp_path / "vae.safetensors"))


def test_names_are_those_of_latent_diffusion(tmp_path):
    """Of an f=4 model, as `stabilityai/sd-vae-ft-mse-original` has them."""
    state = original_state(kl())
    shapes = {
        "encoder.conv_in.weight": (8, 3, 3, 3),
        "encoder.down.0.block.0.norm1.weight": (8,),
        "encoder.down.1.downsample.conv.weight": (8, 8, 3, 3),
        "encoder.down.2.block.0.nin_shortcut.weight": (16, 8, 1, 1),
        "encoder.mid.block_2.conv2.bias": (16,),
        "encoder.mid.attn_1.q.weight": (16, 16, 1, 1),
        "encoder.mid.attn_1.norm.bias": (16,),
        "encoder.norm_out.weight": (16,),
        "decoder.mid.attn_1.proj_out.weight": (16, 16, 1, 1),
        "decoder.mid.attn_1.proj_out.bias": (16,),
        "decoder.up.2.block.1.conv1.weight": (16, 16, 3, 3),  # the level of the latents
        "decoder.up.0.block.0.conv1.weight": (8, 8, 3, 3),  # that of the image
        "decoder.up.1.block.0.nin_shortcut.weight": (8, 16, 1, 1),
        "decoder.up.2.upsample.conv.bias": (16,),
        "decoder.up.1.upsample.conv.bias": (8,),
        "quant_conv.weight": (8, 8, 1, 1),
        "post_quant_conv.bias": (4,),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert "encoder.down.2.downsample.conv.weight" not in state
    assert "decoder.up.0.upsample.conv.weight" not in state
    assert not [name for name in state if "blocks" in name or "resnets" in name or "to_" in name]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, tmp_path):
    model = kl()
    model.save_config(tmp_path)
    save_single_file(model, tmp_path / "vae.safetensors", dtype=dtype)
    assert model.dtype == torch.float32
    where = str(tmp_path / "vae.safetensors")
    opened = AutoencoderKL.from_single_file(where, config=str(tmp_path), torch_dtype=dtype)
    for name, value in model.to(dtype).state_dict().items():
        assert opened.state_dict()[name].dtype == dtype
        assert torch.equal(opened.state_dict()[name], value), name


def test_ours_and_its_metadata(tmp_path):
    model = vae()
    model.standardize_latents(torch.tensor([0.5, -1.0, 0.2, 0.0]), torch.tensor([1.0, 2.0, 0.5, 3.0]))
    file = tmp_path / "vae.safetensors"
    returned = save_single_file(model, file)
    assert type(returned) is AutoencoderKL
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert metadata["format"] == "pt"
    assert metadata["scaling_factor"] == "1.0"
    assert metadata["layout"] == "latent diffusion, keys of the VAE alone"
    # The configuration that the file is to be opened with is in the file.
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.json").write_text(metadata["config"])
    opened = AutoencoderKL.from_single_file(str(file), config=str(tmp_path / "config"))
    x = images()
    assert torch.equal(opened(x).sample, model(x).sample)
    assert torch.equal(opened.encode(x).latent_dist.parameters, model.encode(x).latent_dist.parameters)
    assert json.loads(metadata["config"])["latents_std"] == [1.0] * 4
    again = load_autoencoder(str(file), config=str(tmp_path / "config")).model
    assert torch.equal(again(x).sample, model(x).sample)


def test_a_prefixed_file_is_the_part_of_a_checkpoint(tmp_path):
    """Beside other weights diffusers takes the VAE's part alone."""
    model = kl()
    model.save_config(tmp_path)
    save_single_file(model, tmp_path / "vae.safetensors", prefix=True)
    with safe_open(tmp_path / "vae.safetensors", "pt") as opened:
        state = {name: opened.get_tensor(name) for name in names(tmp_path / "vae.safetensors")}
    state["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(4, 4, 3, 3)
    opened = AutoencoderKL.from_single_file(state, config=str(tmp_path))
    assert torch.equal(opened(images()).sample, model(images()).sample)


def test_without_a_config_diffusers_guesses_stable_diffusion(tmp_path, monkeypatch):
    """What the docstring says: the names of a VAE alone tell nothing of the model they belong to."""
    asked = []

    def load_config(pretrained_model_name_or_path, subfolder=None, **options):
        asked.append((pretrained_model_name_or_path, subfolder))
        return {**vae().to_autoencoder_kl().config, "scaling_factor": 0.18215}

    save_single_file(vae(), tmp_path / "vae.safetensors")
    monkeypatch.setattr(AutoencoderKL, "load_config", load_config)
    opened = AutoencoderKL.from_single_file(str(tmp_path / "vae.safetensors"))
    assert asked == [("stable-diffusion-v1-5/stable-diffusion-v1-5", "vae")]
    assert opened.config.scaling_factor == 0.18215


def test_what_has_no_such_layout_is_refused(tmp_path):
    file = tmp_path / "vae.safetensors"
    with pytest.raises(UserError, match=r"a single file holds an .*, and this model is AutoencoderTiny"):
        save_single_file(AutoencoderTiny(), file)
    with pytest.raises(UserError, match=r"this AutoencoderVAE cannot become a class of diffusers: .* a bernoulli"):
        save_single_file(vae(likelihood="bernoulli"), file)
    attention = kl(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    with pytest.raises(UserError, match="blocks AttnDownEncoderBlock2D, DownEncoderBlock2D"):
        save_single_file(attention, file)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    file = tmp_path / "vae.safetensors"
    save_single_file(kl(), file)
    before = file.read_bytes()

    def full(state, partial, metadata):
        partial.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vae_plugin.export.single_file.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_single_file(vae(), file, overwrite=True)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["vae.safetensors"]


def test_what_other_tools_can_load():
    stable_diffusion = {
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "norm_num_groups": 32,
    }
    with torch.device("meta"):
        theirs = AutoencoderKL(**stable_diffusion)
        sd3 = AutoencoderKL(**stable_diffusion, latent_channels=16, use_quant_conv=False, use_post_quant_conv=False)
    assert foreign_to_other_tools(theirs) == []
    assert foreign_to_other_tools(sd3) == []
    for channels in (32, 64):
        sd3.register_to_config(latent_channels=channels)
        assert foreign_to_other_tools(sd3) == [f"latent_channels = {channels} (theirs 4)"]
    assert foreign_to_other_tools(kl()) == [
        "block_out_channels = (8, 8, 16) (theirs (128, 256, 512, 512))",
        "layers_per_block = 1 (theirs 2)",
        "norm_num_groups = 4 (theirs 32)",
    ]
