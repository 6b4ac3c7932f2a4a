"""Runs whose model pads its borders otherwise than by zeros."""

import json
import re

import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from support.runs import options
from support.tiny_diffusers import latents, tiny
from vae_plugin import cli, finetune
from vae_plugin.autoencoders import adapt, load_autoencoder
from vae_plugin.autoencoders.padding import PADDING_KEY, padding_mode
from vae_plugin.errors import UserError
from vae_plugin.hub.push import write_card

X = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zeros")
    tiny("AutoencoderKL").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reflecting(base, tmp_path_factory):
    """A model that was tuned with reflection."""
    out = tmp_path_factory.mktemp("run") / "out"
    tuned(base, out, padding_mode="reflect", checkpointing_steps=1)
    return out


def tuned(source, out, **changes):
    settings = {"dataset_name": "circles", "circles_hue": True, "in_channels": 3, "resolution": 16}
    finetune.train(
        options(out, pretrained_model_name_or_path=str(source), max_train_steps=2, **{**settings, **changes})
    )
    return out


@pytest.mark.slow
def test_the_change_is_recorded_and_said_and_kept_by_the_next_run(base, reflecting, tmp_path, capsys):
    tuned(base, tmp_path / "again", padding_mode="reflect")
    assert "note: the convolutions padded by zeros so far, and pad by reflect" in capsys.readouterr().err
    assert padding_mode(load_autoencoder(str(reflecting)).model) == "reflect"
    kept = tuned(reflecting, tmp_path / "kept", train="decoder")
    assert "padded by" not in capsys.readouterr().err
    model = load_autoencoder(str(kept)).model
    assert padding_mode(model) == model.config[PADDING_KEY] == "reflect"
    assert torch.equal(latents(model, X), latents(load_autoencoder(str(reflecting)).model, X))
    back = tuned(reflecting, tmp_path / "back", padding_mode="zeros")
    assert json.loads((back / "config.json").read_text())[PADDING_KEY] == "zeros"
    assert "padded by reflect so far, and pad by zeros" in capsys.readouterr().err


def test_the_card_gives_plain_diffusers_the_same_borders(reflecting):
    card = (reflecting / "README.md").read_text()
    assert "> **Note on borders.** The convolutions of this model pad by `reflect`" in card.split("## Use")[0]
    code = next(block for block in re.findall(r"```python\n(.*?)```", card, re.S) if "from_pretrained" in block)
    loop = re.search(r"^for module in vae.*?(?=^\S)", code, re.S | re.M)[0]
    vae = AutoencoderKL.from_pretrained(reflecting).eval()
    ours = load_autoencoder(str(reflecting)).model.eval()
    assert not torch.equal(latents(vae, X), latents(ours, X))
    exec(loop, {"vae": vae, "torch": torch})
    assert torch.equal(latents(vae, X), latents(ours, X))
    assert "Note on borders" not in write_card_of_zeros(reflecting.parent)


def write_card_of_zeros(folder):
    adapt(tiny("AutoencoderKL")).save(folder / "zeros")
    return write_card(folder / "zeros").read_text()


def test_latents_that_stay_refuse_other_borders(base, tmp_path):
    for changes in ({"train": "decoder"}, {"train": "encoder"}, {"latent_anchor": 1.0}):
        with pytest.raises(UserError, match=r"--padding_mode reflect would change the latents near the borders"):
            tuned(base, tmp_path / "out", padding_mode="reflect", **changes)


def test_a_resumed_run_keeps_it(base, reflecting):
    with pytest.raises(UserError, match=r"--padding_mode was reflect and is now replicate: a resumed run must keep it"):
        tuned(base, reflecting, padding_mode="replicate", resume_from_checkpoint="latest", checkpointing_steps=1)


def test_an_image_that_cannot_be_reflected_is_refused_before_training(tmp_path):
    with pytest.raises(UserError, match=r"--resolution 8 is too small for this AutoencoderVAE.*at least 16 pixels"):
        finetune.train(options(tmp_path, resolution=8, block_out_channels=(8,) * 4, norm_num_groups=4,
                               padding_mode="reflect"))  # fmt: skip


def test_low_rank_changes_are_merged_as_they_were_trained(base, monkeypatch):
    pytest.importorskip("peft")
    from vae_plugin.training.lora import add_lora, merge_lora

    adapter = load_autoencoder(str(base))
    adapter.set_padding_mode("reflect")
    add_lora(adapter.model, 2, None)
    with torch.no_grad():
        for name, parameter in adapter.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
        trained = latents(adapter.model, X)
        merge_lora(adapter.model)
    torch.testing.assert_close(latents(adapter.model, X), trained, rtol=0, atol=1e-4)


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_the_commands_take_it_for_a_model_that_does_not_record_it(command, base, tmp_path, capsys):
    seen = []
    original = nn.Conv2d.forward
    words = {"evaluate": ["--max_images", "2", "--resolution", "16"], "export": [str(tmp_path / "vae.safetensors")]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Conv2d, "forward", lambda conv, x: seen.append(conv.padding_mode) or original(conv, x))
        if command == "evaluate":
            cli.main(["evaluate", str(base), "--padding_mode", "reflect", "--circles_hue", *words[command]])
            assert "reflect" in seen
            return
        cli.main(["export", str(base), *words[command], "--padding_mode", "reflect", "--format", "single_file"])
    assert "Its convolutions pad by reflect" in capsys.readouterr().out
    assert padding_mode(load_autoencoder(words[command][0]).model) == "reflect"
