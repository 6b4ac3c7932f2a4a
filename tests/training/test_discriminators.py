"""A discriminator that is ready: its warm-up, its files, and networks of one's own."""

import json
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from torch import nn

from support.tiny_diffusers import tiny
from vae_plugin.errors import UserError
from vae_plugin.finetune import options, train
from vae_plugin.hub.folder import published_files
from vae_plugin.training.discriminators import check_discriminator, make_discriminator, open_discriminator
from vae_plugin.training.losses import PatchDiscriminator
from vae_plugin.training.settings import LossSettings
from vae_plugin.training.setup_model import make_losses

RUN = {
    "circles_length": 16, "train_batch_size": 4, "max_train_steps": 3, "num_validation_images": 2, "resolution": 16,
    "checkpointing_steps": 2,
}  # fmt: skip
SMALL = {"disc_channels": 4, "disc_layers": 1}


def own():
    """For `--discriminator`."""
    torch.manual_seed(4)
    return nn.Sequential(nn.Conv2d(3, 2, 3, stride=2), nn.BatchNorm2d(2), nn.LeakyReLU(), nn.Conv2d(2, 1, 3))


def of_gray_images():
    """For `--discriminator`."""
    return nn.Conv2d(1, 1, 3)


def says_a_word():
    """For `--discriminator`."""
    network = nn.Conv2d(3, 1, 3)
    network.forward = lambda x: "real"
    return network


def no_network():
    """For `--discriminator`."""
    return 3


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny("AutoencoderKL").save_pretrained(folder)
    return folder


def trained(model, out, **more):
    AcceleratorState._reset_state(reset_partial_state=True)
    train(options(**RUN, pretrained_model_name_or_path=str(model), output_dir=str(out), **more))
    lines = [json.loads(line) for line in (out / "logs" / "train.jsonl").read_text().splitlines()]
    return lines, load_file(out / "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def warmed(model, tmp_path_factory):
    """A run whose discriminator trains from its second step, and is heard from the third."""
    out = tmp_path_factory.mktemp("warmed") / "out"
    return out, *trained(model, out, disc_start=1, disc_warmup_steps=1, **SMALL)


def test_in_its_warm_up_a_discriminator_trains_and_is_not_heard(model, warmed, tmp_path):
    _, lines, weights = warmed
    assert [("discriminator_loss" in line, "adversarial" in line) for line in lines] == [
        (False, False), (True, False), (True, True),
    ]  # fmt: skip
    plain, _ = trained(model, tmp_path / "plain")
    assert [line["loss"] for line in lines[:2]] == [line["loss"] for line in plain[:2]]
    unheard, same = trained(model, tmp_path / "unheard", disc_start=1, disc_warmup_steps=9, **SMALL)
    assert not any("adversarial" in line for line in unheard)
    assert any(not torch.equal(value, same[name]) for name, value in weights.items())


def test_it_is_saved_beside_the_result_and_in_checkpoints(warmed):
    out, _, _ = warmed
    saved = load_file(out / "discriminator" / "model.safetensors")
    facts = json.loads((out / "discriminator" / "config.json").read_text())
    assert facts == {"_class_name": "PatchDiscriminator", "step": 3, "in_channels": 3, "channels": 4, "layers": 1}
    network = PatchDiscriminator(3, 4, 1)
    network.load_state_dict(saved)
    for path in (out, out / "discriminator", out / "discriminator" / "model.safetensors"):
        assert all(torch.equal(value, saved[name]) for name, value in open_discriminator(path, 3).state_dict().items())
    last = load_file(out / "checkpoints" / "step-000003" / "model_1.safetensors")
    assert all(torch.equal(last[f"discriminator.{name}"], value) for name, value in saved.items())
    earlier = open_discriminator(out / "checkpoints" / "step-000002" / "model_1.safetensors", 3).state_dict()
    assert any(not torch.equal(value, saved[name]) for name, value in earlier.items())
    assert not any("discriminator" in name for name in published_files(out))  # which nobody asked to publish
    assert not any("discriminator" in name for name in load_file(out / "diffusion_pytorch_model.safetensors"))


def test_a_run_begins_with_one_that_another_has_saved(model, warmed, tmp_path):
    """At its first step the logits are those of the saved network."""
    out, _, _ = warmed
    lines, _ = trained(model, tmp_path / "out", disc_start=0, discriminator=str(out))
    fresh, _ = trained(model, tmp_path / "fresh", disc_start=0, **SMALL)
    assert lines[0]["l1"] == fresh[0]["l1"]
    assert lines[0]["logits_real"] != fresh[0]["logits_real"]
    settings = LossSettings(disc_start=0, discriminator=str(out))
    saved = open_discriminator(out, 3).state_dict()
    assert all(torch.equal(v, saved[name]) for name, v in make_discriminator(settings, 3).state_dict().items())


def test_a_network_of_ones_own(model, tmp_path):
    """It trains, is saved, and its run is continued."""
    name = f"{__name__}:own"
    whole, weights = trained(model, tmp_path / "whole", disc_start=0, discriminator=name)
    begun = {"disc_start": 0, "discriminator": name}
    AcceleratorState._reset_state(reset_partial_state=True)
    cut = {**RUN, "max_train_steps": 2, "pretrained_model_name_or_path": str(model), **begun}
    train(options(**cut, output_dir=str(tmp_path / "cut")))
    lines, again = trained(model, tmp_path / "cut", **begun, resume_from_checkpoint="latest")
    assert lines == whole
    assert all(torch.equal(value, again[key]) for key, value in weights.items())
    facts = json.loads((tmp_path / "cut" / "discriminator" / "config.json").read_text())
    assert facts == {"_class_name": "Sequential", "step": 3, "function": name}
    saved = load_file(tmp_path / "cut" / "discriminator" / "model.safetensors")
    assert saved.keys() == own().state_dict().keys()
    assert any(not torch.equal(saved[key], value) for key, value in own().state_dict().items())


def test_a_network_that_is_given():
    network = own()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network[1].eval()  # frozen statistics, say, which stay as they are
    loss, of_discriminator = make_losses(
        _adapter(), LossSettings(disc_start=0), None, pixels={"l1": 1.0}, sizes=((16, 16),), discriminator=network
    )
    assert of_discriminator.discriminator is loss.image_loss.adversary.discriminator is network
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [module.training for module in network] == [True, False, True, True]
    with pytest.raises(UserError, match="a discriminator needs --disc_start"):
        make_losses(_adapter(), LossSettings(), None, pixels={"l1": 1.0}, sizes=((16, 16),), discriminator=network)


def _adapter():
    from vae_plugin.autoencoders import adapt

    return adapt(tiny("AutoencoderKL"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"{__name__}:of_gray_images", r"of_gray_images does not take images of 3 x 16 x 16: .*"),
        (f"{__name__}:says_a_word", "returns str for 2 images of 3 x 16 x 16: it must return a tensor of logits"),
        (f"{__name__}:no_network", "returns a int: it must return a torch module"),
        ("nothing.here:network", "--discriminator nothing.here:network: No module named 'nothing'"),
        ("nowhere/at/all", "nowhere/at/all is no file or folder that exists, and no MODULE:FUNCTION"),
    ],
)
def test_what_is_no_discriminator_is_refused(name, message):
    settings = LossSettings(disc_start=0, discriminator=name)
    with pytest.raises(UserError, match=message) as caught:
        check_discriminator(make_discriminator(settings, 3), settings, 3, ((16, 16),))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda x: x.mean(), r"returns a tensor of shape \(\) for 2 images of 3 x 16 x 16"),
        (lambda x: x.mean()[None], r"returns a tensor of shape \(1,\)"),  # of the batch as a whole
        (lambda x: x.detach().mean((1, 2, 3)), "has no gradient towards the images"),
    ],
)
def test_what_gives_no_logits_is_refused(forward, message):
    network = nn.Conv2d(3, 1, 3)
    network.forward = forward
    with pytest.raises(UserError, match=message):
        check_discriminator(network, LossSettings(disc_start=0), 3, ((16, 16),))
    with pytest.raises(UserError, match="the discriminator Conv2d has no weights to train"):
        check_discriminator(network.requires_grad_(False), LossSettings(disc_start=0), 3, ((16, 16),))


def damaged(kind, weights, folder) -> Path:
    file = folder / "model.safetensors"
    if kind == "pickle":
        torch.save(weights, file)
    elif kind == "cut":
        save_file(weights, file)
        file.write_bytes(file.read_bytes()[:-10])
    elif kind == "empty":
        save_file({}, file)
    else:
        first = weights["layers.0.weight"]
        changes = {
            "nan": {"layers.0.bias": torch.full((4,), torch.nan)},
            "integers": {"layers.0.bias": torch.zeros(4, dtype=torch.int32)},
            "wider": {"layers.0.weight": torch.zeros(8, 3, 4, 4)},
            "nothing": {"layers.0.weight": torch.zeros(0, 3, 4, 4)},
            "more": {"layers.9.weight": first.clone()},
        }
        save_file({**weights, **changes[kind]}, file)
    return file


@pytest.mark.parametrize("kind", ["pickle", "cut", "empty", "nan", "integers", "wider", "nothing", "more"])
def test_damaged_files_are_refused(kind, warmed, tmp_path):
    weights = load_file(warmed[0] / "discriminator" / "model.safetensors")
    with pytest.raises(UserError, match="--discriminator") as caught:
        open_discriminator(damaged(kind, weights, tmp_path), 3)
    assert "\n" not in str(caught.value)


def test_one_for_other_images_is_refused(warmed, tmp_path):
    out, _, _ = warmed
    with pytest.raises(UserError, match="made for images of 3 channels, and this run shows it 1"):
        open_discriminator(out, 1)
    with pytest.raises(UserError, match=r"has no discriminator/model.safetensors"):
        open_discriminator(tmp_path, 3)
    settings = LossSettings(disc_start=0, discriminator=str(out))
    with pytest.raises(UserError, match=r"images of 4 pixels are too small .*: give at least 8, or another one"):
        check_discriminator(make_discriminator(settings, 3), settings, 3, ((4, 4),))
    with pytest.raises(UserError, match="--disc_layers has no effect with --discriminator"):
        options(train_data_dir="x", disc_start=0, discriminator=str(out), disc_layers=2)
