"""Weights that do not fit never open: at every door, and whatever is wrong with them."""

import json

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from support.tiny_diffusers import BY_NAME, CONFIGS, tiny
from vae_plugin import AutoencoderVAE, AutoencoderVQVAE
from vae_plugin.autoencoders import load_autoencoder
from vae_plugin.cli import main
from vae_plugin.errors import UserError

WEIGHTS = "diffusion_pytorch_model.safetensors"
OURS = {"in_channels": 1, "block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": 16}
FIRST = "encoder.conv_in.weight"


def made(name):
    torch.manual_seed(0)
    return (
        tiny(name)
        if name in BY_NAME
        else {"AutoencoderVAE": AutoencoderVAE, "AutoencoderVQVAE": AutoencoderVQVAE}[name](**OURS).eval()
    )


CLASSES = ["AutoencoderVAE", "AutoencoderVQVAE", *(cls.__name__ for cls in CONFIGS)]


def doors(name):
    """How a folder of that class is opened: from a library, and from Python."""
    ours = {"AutoencoderVAE": AutoencoderVAE, "AutoencoderVQVAE": AutoencoderVQVAE}
    opened = [lambda folder: load_autoencoder(str(folder)).to_saved()]
    return opened + ([ours[name].from_pretrained] if name in ours else [])


@pytest.fixture
def saved(tmp_path):
    """A writer of weights into a folder that holds their model."""

    def save(name):
        model = made(name)
        model.save_pretrained(tmp_path)
        return model, load_file(tmp_path / WEIGHTS)

    return save


def first_weight(state):
    return next(name for name in sorted(state) if name.startswith("encoder.") and name.endswith("weight"))


def spoilt(state, name, value):
    changed = state[name].clone()
    changed.view(-1)[0] = value
    return {**state, name: changed}


FAULTS = {
    "one missing": lambda s, n: {k: v for k, v in s.items() if k != n},
    "none at all": lambda s, n: {},
    "the decoder only": lambda s, n: {k: v for k, v in s.items() if not k.startswith("encoder.")},
    "one unknown": lambda s, n: {**s, "another.weight": torch.zeros(2)},
    "a copy of an average": lambda s, n: {**s, **{f"ema.{k}": v.clone() for k, v in s.items()}},
    "two wrappers, one of each": lambda s, n: {f"{'ab'[i % 2]}.{k}": v for i, (k, v) in enumerate(s.items())},
    "another shape": lambda s, n: {**s, n: s[n].flatten()},
    "transposed": lambda s, n: {**s, n: s[n].transpose(0, 1).contiguous()[..., None]},
    "nan": lambda s, n: spoilt(s, n, float("nan")),
    "infinity, under a prefix": lambda s, n: {f"module.{k}": v for k, v in spoilt(s, n, -float("inf")).items()},
    "whole numbers": lambda s, n: {**s, n: s[n].to(torch.int8)},
}


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        *(("AutoencoderVAE", fault) for fault in FAULTS),
        *((name, "one missing") for name in CLASSES[1:]),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_sentence(name, fault, saved, tmp_path):
    _, state = saved(name)
    save_file(FAULTS[fault](state, first_weight(state)), tmp_path / WEIGHTS)
    for door in doors(name):
        with pytest.raises(UserError) as error:
            door(tmp_path)
        message = str(error.value)
        assert str(tmp_path) in message
        assert "\n" not in message
        if fault in ("one missing", "another shape", "transposed", "nan", "infinity, under a prefix", "whole numbers"):
            assert first_weight(state) in message


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        *(("AutoencoderVAE", prefix) for prefix in ("_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "vae.")),
        *((name, "module.") for name in CLASSES[1:]),
    ],
)
def test_the_prefix_of_a_wrapper_is_taken_off_and_said(name, prefix, saved, tmp_path, capsys):
    model, state = saved(name)
    save_file({prefix + key: value for key, value in state.items()}, tmp_path / WEIGHTS)
    for door in doors(name):
        opened = door(tmp_path).state_dict()
        assert opened.keys() == model.state_dict().keys()
        assert all(torch.equal(opened[key], value) for key, value in model.state_dict().items())
        assert f"names of a wrapper: {prefix}" in capsys.readouterr().err


def test_a_part_that_was_compiled_and_shards_of_a_wrapped_model(tmp_path, saved):
    model, state = saved("AutoencoderVAE")
    save_file({k.replace("encoder.", "encoder._orig_mod."): v for k, v in state.items()}, tmp_path / WEIGHTS)
    opened = AutoencoderVAE.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(opened[key], value) for key, value in model.state_dict().items())

    (tmp_path / WEIGHTS).unlink()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    index = tmp_path / f"{WEIGHTS}.index.json"
    content = json.loads(index.read_text())
    for shard in set(content["weight_map"].values()):
        save_file({f"module.{k}": v for k, v in load_file(tmp_path / shard).items()}, tmp_path / shard)
    content["weight_map"] = {f"module.{name}": shard for name, shard in content["weight_map"].items()}
    index.write_text(json.dumps(content))
    opened = AutoencoderVAE.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(opened[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["AutoencoderVAE"])
def test_shards_that_are_not_there_or_hold_less_than_their_index_says(name, tmp_path):
    model = made(name)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    index = tmp_path / f"{WEIGHTS}.index.json"
    right = index.read_text()
    for content in ({}, [], 3, {"weight_map": []}, {"weight_map": {FIRST: 5}}, {"weight_map": {FIRST: None}}):
        index.write_text(json.dumps(content))
        for door in doors(name):
            with pytest.raises(UserError, match=r"is no index of their shards\. Save"):
                door(tmp_path)
    index.write_text(right)
    shard = tmp_path / json.loads(right)["weight_map"][FIRST]
    state = load_file(shard)
    save_file({key: value for key, value in state.items() if key != FIRST}, shard)
    for door in doors(name):
        with pytest.raises(UserError, match=FIRST):
            door(tmp_path)
    shard.write_bytes(shard.read_bytes()[:-8])
    for door in doors(name):
        with pytest.raises(UserError, match="is damaged"):
            door(tmp_path)
    shard.unlink()
    for door in doors(name):
        with pytest.raises(UserError, match=f"names {shard.name}, not there"):
            door(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 200, -1])
def test_a_file_that_was_cut(keep, saved, tmp_path):
    saved("AutoencoderVAE")
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:keep])
    for door in doors("AutoencoderVAE"):
        with pytest.raises(UserError, match="is damaged"):
            door(tmp_path)


def test_names_that_diffusers_converts_still_open(tmp_path):
    """The attention of an `AutoencoderKL` of diffusers 0.12, also from within a wrapper."""
    model = tiny("AutoencoderKL")
    model.save_pretrained(tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, value in load_file(tmp_path / WEIGHTS).items():
        for new, former in old.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{former}.")
        state[name] = value
    assert any("query" in name for name in state)
    for prefix in ("", "module."):
        save_file({prefix + name: value for name, value in state.items()}, tmp_path / WEIGHTS)
        opened = load_autoencoder(str(tmp_path)).model.state_dict()
        assert all(torch.equal(opened[name], value) for name, value in model.state_dict().items())


def test_names_that_a_class_ignores_still_open(saved, tmp_path, monkeypatch):
    _, state = saved("AutoencoderKL")
    save_file({**state, "lost.weight": torch.zeros(2)}, tmp_path / WEIGHTS)
    monkeypatch.setattr(AutoencoderKL, "_keys_to_ignore_on_load_unexpected", ["^lost"])
    assert load_autoencoder(str(tmp_path)).class_name == "AutoencoderKL"


def test_nothing_is_left_to_chance_by_the_arguments_of_diffusers(saved, tmp_path):
    model, state = saved("AutoencoderVAE")
    opened, info = AutoencoderVAE.from_pretrained(tmp_path, low_cpu_mem_usage=False, output_loading_info=True)
    assert info["missing_keys"] == []
    assert all(torch.equal(opened.state_dict()[key], value) for key, value in model.state_dict().items())
    with pytest.raises(ValueError, match="ignore_mismatched_sizes"):
        AutoencoderVAE.from_pretrained(tmp_path, ignore_mismatched_sizes=True)
    save_file({key: value for key, value in state.items() if key != FIRST}, tmp_path / WEIGHTS)
    for given in ({"low_cpu_mem_usage": False}, {"device_map": "cpu"}, {"torch_dtype": torch.float16}):
        with pytest.raises(UserError, match=FIRST):
            AutoencoderVAE.from_pretrained(tmp_path, **given)
    save_file(spoilt(state, FIRST, 1e7), tmp_path / WEIGHTS)
    AutoencoderVAE.from_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"{FIRST}.*float32"):
        AutoencoderVAE.from_pretrained(tmp_path, torch_dtype=torch.float16)


def test_weights_on_disk_are_checked_as_well(saved, tmp_path):
    _, state = saved("AutoencoderVAE")
    parts = ("encoder", "quant_conv", "post_quant_conv", "decoder", "likelihood")
    place = {
        "device_map": {**dict.fromkeys(parts, "disk"), "quant_conv": "cpu"},
        "offload_folder": tmp_path / "offloaded",
    }
    AutoencoderVAE.from_pretrained(tmp_path, **place)
    save_file({f"module.{key}": value for key, value in state.items()}, tmp_path / WEIGHTS)
    AutoencoderVAE.from_pretrained(tmp_path, **place)
    save_file(spoilt(state, FIRST, float("nan")), tmp_path / WEIGHTS)
    with pytest.raises(UserError, match=FIRST):
        AutoencoderVAE.from_pretrained(tmp_path, **place)


def test_a_subfolder_is_opened_with_its_own_weights(tmp_path):
    """As OUT/best is; diffusers takes the weights of the folder above."""
    above, below = made("AutoencoderVAE"), AutoencoderVAE(**OURS)
    above.save_pretrained(tmp_path)
    below.save_pretrained(tmp_path / "best")
    opened = AutoencoderVAE.from_pretrained(tmp_path, subfolder="best")
    assert torch.equal(opened.encoder.conv_in.weight, below.encoder.conv_in.weight)


def test_a_quantised_folder_is_refused_by_name(saved, tmp_path):
    saved("AutoencoderVAE")
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "quanto", "weights_dtype": "int8"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"are quantised .*quanto"):
        load_autoencoder(str(tmp_path))


@pytest.mark.parametrize("command", ["evaluate", "export", "card", "push", "finetune"])
def test_every_command_refuses_them(command, saved, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_none")  # a push is refused before anything is asked of the Hub
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    _, state = saved("AutoencoderVAE")
    save_file({key: value for key, value in state.items() if key != FIRST}, tmp_path / WEIGHTS)
    words = {
        "export": [str(tmp_path / "out")],
        "push": ["user/model"],
        "finetune": ["--dataset_name", "circles", "--output_dir", str(tmp_path / "out"), "--max_train_steps", "1"],
    }
    model = ["--pretrained_model_name_or_path"] * (command == "finetune") + [str(tmp_path)]
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main([command, *model, *words.get(command, [])]) == 2
    message = capsys.readouterr().err
    assert FIRST in message
    assert message.count("\n") == 1
    assert [path.name for path in sorted(tmp_path.iterdir()) if path.name != "out"] == before
