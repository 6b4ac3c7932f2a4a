"""Images with alpha: judged over backgrounds, by gradients, steps, runs and their continuations."""

import json

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file

from support.tiny_diffusers import tiny
from vae_plugin.autoencoders import adapt
from vae_plugin.errors import UserError
from vae_plugin.finetune import options, train
from vae_plugin.options import build, keep_what_was, to_dict
from vae_plugin.options.fields import changed
from vae_plugin.training.checkpoints import _sha256_of
from vae_plugin.training.losses import (
    Adversary,
    DiscriminatorLoss,
    DistillationLoss,
    ImageLoss,
    PatchDiscriminator,
    PerceptualTerm,
    ReconstructionLoss,
)
from vae_plugin.training.losses.transparency import over
from vae_plugin.training.sampler import image_backgrounds
from vae_plugin.training.settings import FinetuneOptions


def images(seed, n=2, size=16):
    return torch.rand(n, 4, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def distance(x, y):
    """A perceptual distance of RGB alone."""
    assert x.shape[1] == 3
    return (x - y).pow(4).flatten(1).mean(1)


class Kept(PatchDiscriminator):
    """Keeps what it is shown."""

    def __init__(self):
        super().__init__(3, 4, 1)
        self.shown = []

    def forward(self, x):
        self.shown.append(x.detach())
        return super().forward(x)


def test_compositing_is_pillows():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    colour = (10, 200, 90)
    canvas = Image.new("RGBA", (7, 9), (*colour, 255))
    expected = np.asarray(Image.alpha_composite(canvas, Image.fromarray(pixels)).convert("RGB"), dtype=float)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    seen = over(x, torch.tensor([colour]) / 127.5 - 1)
    assert np.abs((seen[0].permute(1, 2, 0).numpy() + 1) * 127.5 - expected).max() < 1


def test_gradients_are_those_of_composited_images():
    torch.manual_seed(0)
    x, y, b = images(0).double(), images(1).double(), torch.rand(2, 3).double() * 2 - 1
    module = ImageLoss({"l1": 0.3, "l2": 0.5}, perceptual=[PerceptualTerm("d", distance, 0.45)], alpha_scale=0.7)
    ours = y.clone().requires_grad_()
    error, terms = module._error(ours, x, b)
    error.backward()

    hand = y.clone().requires_grad_()
    opacity, true_opacity = (hand[:, 3] + 1) / 2, (x[:, 3] + 1) / 2
    loss = 0
    for c in range(3):
        seen = hand[:, c] * opacity + b[:, c, None, None] * (1 - opacity)
        true = x[:, c] * true_opacity + b[:, c, None, None] * (1 - true_opacity)
        loss = loss + (0.3 * (seen - true).abs() + 0.5 * (seen - true) ** 2 + 0.45 * (seen - true) ** 4).mean() / 3
    alpha = (0.3 * (hand[:, 3] - x[:, 3]).abs() + 0.5 * (hand[:, 3] - x[:, 3]) ** 2).mean()
    (loss + 0.7 * alpha).backward()
    torch.testing.assert_close(ours.grad, hand.grad)
    torch.testing.assert_close(terms["alpha"], alpha.detach())


def test_colour_that_is_not_seen_is_not_trained_on():
    """Under alpha 0 the data may hold any colour: no loss and no gradient changes."""
    hidden = images(0)
    hidden[:, 3, :8] = -1
    other = hidden.clone()
    other[:, :3, :8] = images(5)[:, :3, :8]
    module = ImageLoss("l1", perceptual=distance, alpha_scale=1.0)
    b, found = torch.rand(2, 3), []
    for target in (hidden, other):
        y = images(1).requires_grad_()
        loss, terms = module(y, target, None, 0, b)
        loss.backward()
        found.append((loss, y.grad, terms))
        assert terms.keys() == {"l1", "alpha", "perceptual"}
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    compared = [module.compare(target, images(1)) for target in (hidden, other)]
    assert all(torch.equal(value, compared[1][name]) for name, value in compared[0].items())
    assert compared[0].keys() == set(module.measures) == {"perceptual", "composited_psnr"}


def test_the_discriminator_sees_what_the_losses_see():
    discriminator = Kept()
    loss = ReconstructionLoss(
        adapt(tiny("AutoencoderKL", in_channels=4, out_channels=4)),
        ImageLoss(adversary=Adversary(discriminator), alpha_scale=1.0),
    )
    x, b = images(0), torch.rand(2, 3)
    noise = torch.zeros(loss.noise_shape(2, 16, 16))
    terms = loss(x, noise, 0, b)
    DiscriminatorLoss(discriminator, "hinge", "r1", 1.0)(x, terms["reconstruction"], b)["loss"].backward()
    of_generator, real, fake = discriminator.shown
    torch.testing.assert_close(real, over(x, b))
    torch.testing.assert_close(fake, over(terms["reconstruction"], b))
    torch.testing.assert_close(of_generator, fake)


def test_a_distillation_is_judged_so_too():
    student, teacher = (adapt(tiny("AutoencoderTiny", seed=s, in_channels=4, out_channels=4)) for s in (0, 1))
    loss = DistillationLoss(student, teacher, ImageLoss("l2", alpha_scale=1.0))
    x, b = images(0), torch.rand(2, 3)
    assert loss.has_alpha
    terms = loss(x, torch.zeros(loss.noise_shape(2, 16, 16)), 0, b)
    target = teacher.decode(teacher.posterior(x).mode(), x.shape[-2:])
    expected = (over(terms["reconstruction"], b) - over(target, b)).square().mean()
    torch.testing.assert_close(terms["l2"], expected)


def test_backgrounds_depend_on_the_seed_and_the_image_alone():
    """Not on batches, so neither on processes nor on interruptions; and they fill the range."""
    whole = image_backgrounds(3, range(1000))
    assert torch.equal(torch.cat([image_backgrounds(3, range(i, i + 250)) for i in range(0, 1000, 250)]), whole)
    assert not torch.equal(image_backgrounds(4, range(1000)), whole)
    assert whole.min() >= -1
    assert whole.max() <= 1
    assert whole.mean(0).abs().max() < 0.1
    assert (whole.var(0) - 1 / 3).abs().max() < 0.03  # of a uniform distribution
    assert np.abs(np.corrcoef(whole.T.numpy()) - np.eye(3)).max() < 0.1


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """RGBA pictures, half of each transparent, and a model for them."""
    folder = tmp_path_factory.mktemp("place")
    random = np.random.default_rng(0)
    tiny("AutoencoderKL", in_channels=4, out_channels=4).save_pretrained(folder / "model")
    (folder / "a").mkdir()
    for i in range(12):
        pixels = random.integers(0, 256, (16, 16, 4), dtype=np.uint8)
        pixels[:9, :, 3] = 0
        Image.fromarray(pixels).save(folder / "a" / f"{i:02d}.png")
    return folder


RUN = {
    "train_batch_size": 4, "num_validation_images": 2, "resolution": 16, "checkpointing_steps": 2, "disc_start": 0,
    "disc_channels": 4, "disc_layers": 1, "center_crop": True,
}  # fmt: skip


def trained(place, out, steps=4, **more):
    AcceleratorState._reset_state(reset_partial_state=True)
    given = {
        "pretrained_model_name_or_path": str(place / "model"),
        "train_data_dir": (str(place / "a"),),
        **RUN,
        **more,
    }
    train(options(**given, output_dir=str(out), max_train_steps=steps))
    lines = [json.loads(line) for line in (out / "logs" / "train.jsonl").read_text().splitlines()]
    return lines, load_file(out / "diffusion_pytorch_model.safetensors")


def test_a_run_is_the_same_cut_and_continued(place, tmp_path, capsys):
    lines, weights = trained(place, tmp_path / "whole")
    assert "--fourth_channel band" in capsys.readouterr().out
    trained(place, tmp_path / "cut", steps=2)
    again, same = trained(place, tmp_path / "cut", resume_from_checkpoint="latest")
    assert again == lines
    assert all(torch.equal(value, same[name]) for name, value in weights.items())
    assert all("alpha" in line for line in lines)
    metrics = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert {"composited_psnr", "base_composited_psnr", "psnr"} <= metrics.keys()
    assert "over black and over white" in (tmp_path / "whole" / "README.md").read_text()
    discriminator = json.loads((tmp_path / "whole" / "discriminator" / "config.json").read_text())
    assert discriminator["in_channels"] == 3


def test_as_a_band_it_is_trained_as_it_was(place, tmp_path, capsys):
    lines, _ = trained(place, tmp_path / "band", steps=2, fourth_channel="band")
    assert "fourth channel" not in capsys.readouterr().out
    assert not any("alpha" in line for line in lines)
    discriminator = json.loads((tmp_path / "band" / "discriminator" / "config.json").read_text())
    assert discriminator["in_channels"] == 4
    with pytest.raises(UserError, match="--alpha_scale"):
        options(train_data_dir=("x",), fourth_channel="band", alpha_scale=2.0)


def test_an_old_checkpoint_goes_on_as_it_began(place, tmp_path):
    """It does not name the option: then the fourth channel was one like the others."""
    whole, weights = trained(place, tmp_path / "whole", fourth_channel="band")
    trained(place, tmp_path / "old", steps=2, fourth_channel="band")
    state = tmp_path / "old" / "checkpoints" / "step-000002" / "training_state.json"
    content = json.loads(state.read_text())
    for name in ("fourth_channel", "alpha_scale", "discriminator", "disc_warmup_steps"):
        del content["options"][name]
    said = {name: value for name, value in content.items() if name != "sha256"}
    state.write_text(json.dumps({**said, "sha256": _sha256_of(said)}))
    again, same = trained(place, tmp_path / "old", resume_from_checkpoint="latest")
    assert again == whole
    assert all(torch.equal(value, same[name]) for name, value in weights.items())
    with pytest.raises(UserError, match="--fourth_channel was band and is now alpha"):
        trained(place, tmp_path / "old", resume_from_checkpoint="step-000002", fourth_channel="alpha")


def test_options_of_an_old_run_without_alpha_are_not_changed():
    now = build(FinetuneOptions, {"train_data_dir": "x"})
    then = {name: value for name, value in to_dict(now).items() if name != "fourth_channel"}
    keep_what_was(then, now)
    assert now.loss.fourth_channel == "band"
    assert changed(then, now) == {}
    current = build(FinetuneOptions, {"train_data_dir": "x"})
    keep_what_was(to_dict(current), current)
    assert current.loss.fourth_channel == "alpha"


def test_it_has_no_meaning_for_other_images():
    asked = build(FinetuneOptions, {"train_data_dir": "x", "fourth_channel": "band"})
    with pytest.raises(UserError, match="--fourth_channel is about images of 4 channels, and the model takes 3"):
        asked.check_model(adapt(tiny("AutoencoderKL")), None)
