"""Several losses at once: their weights, names, gradients and options."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import nn
from transformers import ConvNextConfig, ConvNextModel

from support.tiny_diffusers import tiny
from vae_plugin import finetune
from vae_plugin.errors import UserError
from vae_plugin.hub import RunRecord, model_card
from vae_plugin.hub.results import Results
from vae_plugin.metrics import ssim as measured_ssim
from vae_plugin.options import build, parse, to_dict
from vae_plugin.options.fields import changed
from vae_plugin.training.losses import (
    ImageLoss,
    PerceptualDistance,
    PerceptualTerm,
    check_perceptual,
    load_perceptual_terms,
)
from vae_plugin.training.losses import perceptual as perceptual_losses
from vae_plugin.training.losses.pixels import PIXEL_LOSSES
from vae_plugin.training.settings import FinetuneOptions

HERE = __name__
GUIDE = Path(__file__).resolve().parents[2] / "examples" / "LOSSES.md"


class Features(nn.Module):
    """A map of features of a fixed seed."""

    def __init__(self, seed):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(seed)))

    def forward(self, x):
        return (self.conv(x).relu(),)


def one():
    """For `--perceptual_loss`."""
    return PerceptualDistance(Features(1))


def other():
    """For `--perceptual_loss`."""
    return PerceptualDistance(Features(2))


def psnr():
    """For `--perceptual_loss`, by a name that something else has."""
    return one()


def code_of_the_guide(monkeypatch):
    """The function of the guide, with a tiny ConvNeXt."""
    config = ConvNextConfig(hidden_sizes=[4, 8], depths=[1, 1], num_stages=2, patch_size=2)
    torch.manual_seed(0)
    model = ConvNextModel(config)
    monkeypatch.setattr(ConvNextModel, "from_pretrained", lambda name: model)
    [code] = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.M | re.S)
    return code, model


def images(seed, n=2, channels=3, size=16):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def skimage_ssim(x, y):
    x, y = (t.double().numpy() for t in (x, y))
    arguments = {"gaussian_weights": True, "use_sample_covariance": False, "sigma": 1.5, "channel_axis": 0}
    return np.mean(
        [structural_similarity(a, b, data_range=2.0, **arguments) for a, b in zip(x + 1, y + 1, strict=True)]
    )


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_the_ssim_loss_is_that_of_scikit_image(channels):
    x, y = images(0, channels=channels, size=20), images(1, channels=channels, size=20)
    y = 0.7 * x + 0.3 * y
    assert PIXEL_LOSSES["ssim"](y.double(), x.double()).item() == pytest.approx(1 - skimage_ssim(x, y), abs=1e-6)
    assert PIXEL_LOSSES["ssim"](y, x).item() == pytest.approx(1 - skimage_ssim(x, y), abs=1e-5)
    assert PIXEL_LOSSES["ssim"](x, x).item() == pytest.approx(0, abs=1e-6)
    levels = (((t + 1) * 127.5).round() / 127.5 - 1 for t in (y, x))  # which measuring rounds to
    assert 1 - PIXEL_LOSSES["ssim"](*levels).item() == pytest.approx(measured_ssim(y, x).mean().item(), abs=1e-5)


def test_the_gradient_of_ssim_is_that_of_finite_differences():
    x, y = images(0, 1, 1, 12).double(), images(1, 1, 1, 12).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: PIXEL_LOSSES["ssim"](t, x), (y,))


def test_images_below_the_window_of_ssim_are_refused():
    with pytest.raises(UserError, match=r"11 x 11 pixels, and the images have a side of 10"):
        PIXEL_LOSSES["ssim"](images(0, size=10), images(1, size=10))


def plain_ssim(x, y):
    """SSIM by a sum over each window."""
    offsets = torch.arange(-5.0, 6, dtype=x.dtype)
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = line[:, None] * line
    window = window / window.sum()
    found = []
    for top in range(x.shape[2] - 10):
        for left in range(x.shape[3] - 10):
            a, b = ((t[..., top : top + 11, left : left + 11] + 1) / 2 for t in (x, y))
            mean_a, mean_b = ((window * t).sum((2, 3), keepdim=True) for t in (a, b))
            variance_a, variance_b = ((window * (t - m) ** 2).sum((2, 3)) for t, m in ((a, mean_a), (b, mean_b)))
            covariance = (window * (a - mean_a) * (b - mean_b)).sum((2, 3))
            product, squares = (2 * mean_a * mean_b + 1e-4), (mean_a**2 + mean_b**2 + 1e-4)
            found.append((product / squares)[..., 0, 0] * (2 * covariance + 9e-4) / (variance_a + variance_b + 9e-4))
    return torch.stack(found).mean()


@pytest.mark.parametrize("learned_variance", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_gradients_are_those_of_a_sum_written_by_hand(channels, learned_variance):
    """The recipe L1 .3 + L2 .5 + SSIM .5 + LPIPS .5, and a second network at .45, in float64."""
    x, y = images(0, channels=channels).double(), images(1, channels=channels).double()
    networks = [Features(1).double(), Features(2).double()]

    class InFloat64(PerceptualDistance):
        def forward(self, a, b):
            a, b = (self.features(seen(t))[0] for t in (a, b))
            a, b = (t / (t.square().sum(1, keepdim=True) + 1e-10).sqrt() for t in (a, b))
            return (a - b).square().mean(1).mean((1, 2))

    def seen(t):
        return t[:, :3] if channels >= 3 else t[:, :1].repeat(1, 3, 1, 1)

    terms = [PerceptualTerm(f"n{i}", InFloat64(network), (0.5, 0.45)[i]) for i, network in enumerate(networks)]
    pixels = {"l1": 0.3, "l2": 0.5, "ssim": 0.5, "charbonnier": 0.2}
    module = ImageLoss(pixels, learned_variance=learned_variance, perceptual=terms, perceptual_scale=0.7).double()
    if learned_variance:
        module.log_variance.data.fill_(-0.4)
    ours = y.clone().requires_grad_()
    error, logged = module._error(ours, x, None)
    loss = module._nll(error)
    loss.backward()

    hand = y.clone().requires_grad_()
    parts = {
        "l1": (hand - x).abs().mean(),
        "l2": ((hand - x) ** 2).mean(),
        "ssim": 1 - plain_ssim(hand, x),
        "charbonnier": torch.sqrt((hand - x) ** 2 + 1e-6).mean(),
    }
    for i, network in enumerate(networks):
        maps = [network(seen(t))[0] for t in (hand, x)]
        a, b = (m / torch.sqrt((m**2).sum(1, keepdim=True) + 1e-10) for m in maps)
        parts[f"n{i}"] = ((a - b) ** 2).mean()
    weights = {**pixels, "n0": 0.7 * 0.5, "n1": 0.7 * 0.45}
    expected = sum(weights[name] * part for name, part in parts.items())
    if learned_variance:
        expected = expected * np.exp(0.4) - 0.4
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(ours.grad, hand.grad, rtol=1e-5, atol=1e-9)
    assert {name: logged[name].item() for name in parts} == pytest.approx(
        {name: part.item() for name, part in parts.items()}, rel=1e-6
    )
    assert "perceptual" not in logged


def test_a_name_alone_is_what_it_was():
    """To the bit: a weight of 1 changes nothing, and a single network has the old name too."""
    x, y, distance = images(0), images(1), one()
    loss, terms = ImageLoss("l1", perceptual=distance, perceptual_scale=0.7)(y, x, None, 0)
    error = (y - x).abs().mean() + 0.7 * distance(y, x).mean()
    assert torch.equal(loss, error)
    assert terms.keys() == {"l1", "perceptual"}
    again, named = ImageLoss({"l1": 1.0}, perceptual=load_perceptual_terms({f"{HERE}:one": 0.7}, 3, ((16, 16),)))(
        y, x, None, 0
    )
    assert torch.equal(loss, again)
    assert named.keys() == {"l1", "one", "perceptual"}
    assert torch.equal(named["one"], named["perceptual"])


def test_names_of_networks(monkeypatch):
    monkeypatch.setattr(perceptual_losses, "_load_lpips", lambda net, option: one())
    weights = {"lpips-vgg": 0.5, f"{HERE}:psnr": 0.45, f"{HERE}:other": 2.0}
    terms = load_perceptual_terms(weights, 3, ((16, 16),), taken={"psnr"})
    assert [(term.name, term.weight) for term in terms] == [
        ("lpips_vgg", 0.5), ("perceptual_psnr", 0.45), ("other", 2.0),
    ]  # fmt: skip
    with pytest.raises(UserError, match="would both be logged as one: give one of the functions another name"):
        load_perceptual_terms({f"{HERE}:one": 1.0, "elsewhere.test_many_losses:one": 1.0}, 3, ((16, 16),))


def distance_by(forward):
    network = nn.Conv2d(3, 1, 3)
    network.forward = forward
    return network


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda x, y: (x - y).abs().mean(), r"returns a tensor of shape \(\) for 2 images of 3 x 16 x 16: it must "),
        (lambda x, y: (x - y).abs().mean((0, 1))[:2], r"returns a tensor of shape \(2, 16\) for 2"),
        (lambda x, y: [x, y], "returns list for 2"),
        (lambda x, y: x.view(2, 3, 224, 224), "does not take images of 3 x 16 x 16: shape"),
        (lambda x, y: (x - y).detach().flatten(1).mean(1), "has no gradient towards the images"),
    ],
)
def test_what_is_no_distance_is_refused(forward, message):
    with pytest.raises(UserError, match=f"--perceptual_loss m:f {message}"):
        check_perceptual("--perceptual_loss m:f", distance_by(forward), 3, ((16, 16),))


def test_a_distance_that_does_not_take_one_of_the_sizes_is_refused():
    fits = distance_by(lambda x, y: (x - y).abs().mean((1, 2, 3)))
    square = distance_by(lambda x, y: (x - y).flatten(1).view(-1, 3 * 16, 16).abs().mean((1, 2)))
    sizes = ((8, 24), (16, 16), (24, 8))
    check_perceptual("it", fits, 3, sizes)
    with pytest.raises(UserError, match="it does not take images of 3 x 24 x 8: shape"):
        check_perceptual("it", square, 3, sizes)


def test_a_distance_may_keep_its_dimensions():
    """As that of the lpips package does."""
    network = distance_by(lambda x, y: (x - y).abs().mean((1, 2, 3), keepdim=True))
    check_perceptual("perceptual=", network, 3, ((16, 16),))
    assert ImageLoss("l1", perceptual=network).compare(torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4))[
        "perceptual"
    ].tolist() == [1, 1]


def options_of_words(*words):
    return parse(FinetuneOptions, ["--train_data_dir", "x", *words])


def test_weights_are_written_alike_everywhere(tmp_path):
    words = ["--reconstruction_loss", "l1=0.30", "l2=.5", "ssim=1", "--perceptual_loss", "lpips-vgg=0.5", "a.b:c"]
    typed = options_of_words(*words)
    assert typed.loss.reconstruction_loss == ("l1=0.3", "l2=0.5", "ssim")
    assert typed.loss.pixels(True, False) == {"l1": 0.3, "l2": 0.5, "ssim": 1.0}
    (tmp_path / "list.yaml").write_text(
        "train_data_dir: x\nreconstruction_loss: [l1=0.3, l2=0.5, ssim]\nperceptual_loss:\n- lpips-vgg=0.5\n- a.b:c\n"
    )
    (tmp_path / "map.yaml").write_text(
        "train_data_dir: x\nreconstruction_loss: {l1: 0.3, l2: 5e-1, ssim: 1}\n"
        "perceptual_loss:\n  lpips-vgg: 0.5\n  a.b:c: 1.0\n"
    )
    maps = {"reconstruction_loss": {"l1": 0.3, "l2": 0.5, "ssim": 1}, "perceptual_loss": {"lpips-vgg": 0.5, "a.b:c": 1}}
    for made in (
        parse(FinetuneOptions, ["--config", str(tmp_path / "list.yaml")]),
        parse(FinetuneOptions, ["--config", str(tmp_path / "map.yaml")]),
        build(FinetuneOptions, {"train_data_dir": "x", **maps}),
    ):
        assert to_dict(made) == to_dict(typed)
    assert changed(to_dict(typed), typed) == {}
    # A checkpoint or a file of a run with one name holds a word, which is still what it was.
    single = options_of_words("--reconstruction_loss", "l2=1.0")
    assert to_dict(single)["reconstruction_loss"] == "l2"
    assert changed({**to_dict(single), "reconstruction_loss": "l2"}, single) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["l1=0"], "its weight must be a number above 0"),
        (["l1=-1"], "its weight must be a number above 0"),
        (["l1=nan"], "its weight must be a number above 0"),
        (["l1=inf"], "its weight must be a number above 0"),
        (["l1=half"], "its weight must be a number above 0"),
        (["l1", "l1=0.5"], "names 'l1' twice: keep one"),
        (["charbonier=0.5"], "did you mean 'charbonnier'"),
        (["mse=0.5"], "accepted are elbo, l1, l2"),
        (["=0.5"], "give NAME=WEIGHT"),
        (["l1="], "its weight must be a number above 0"),
        (["l1=1_0"], "its weight must be a number above 0"),
        (["l1=１"], "its weight must be a number above 0"),
        (["l1=0.3,l2=0.5"], "give one after the other with spaces between them, l1=0.3 l2=0.5, or a list in a file"),
        (["l1, ssim"], "with spaces between them, l1 ssim,"),
        (["l1=0.3 l2=0.5"], "with spaces between them, l1=0.3 l2=0.5,"),
        (["l1=0,3"], "write a weight with a point, l1=0.3"),
    ],
)
def test_what_is_no_weight_is_refused(words, message):
    with pytest.raises(UserError, match=message) as caught:
        options_of_words("--reconstruction_loss", *words)
    assert "--reconstruction_loss" in str(caught.value)


@pytest.mark.parametrize("words", [["elbo", "l1"], ["l1=0.5", "elbo"], ["elbo=0.5"]])
def test_the_elbo_is_not_mixed(words):
    with pytest.raises(UserError, match="elbo is a whole objective, which has no weight and nothing beside it"):
        options_of_words("--reconstruction_loss", *words).loss.pixels(True, False)


RECIPES = {  # the names in the curves, and the distance that decides which weights are best
    "l1=0.3": ({"l1", "l2", "ssim", "lpips_vgg", "perceptual"}, "perceptual"),
    "l2=0.25": ({"l2", "lpips_vgg", "distance"}, "lpips_vgg"),
}


@pytest.mark.parametrize("first", RECIPES)
def test_a_published_recipe_as_the_command_of_the_guide(first, tmp_path, monkeypatch):
    """Trained, measured, told in the card, and continued; the guide's function lies in the working directory."""
    monkeypatch.setattr(perceptual_losses, "_load_lpips", lambda net, option: one())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    (tmp_path / "convnext.py").write_text(code_of_the_guide(monkeypatch)[0])
    monkeypatch.delitem(sys.modules, "convnext", raising=False)
    tiny("AutoencoderKL").save_pretrained(tmp_path / "model")
    [command] = re.findall(rf"--reconstruction_loss {first}.*?(?= --output_dir)", GUIDE.read_text())
    run = (
        "--pretrained_model_name_or_path model --output_dir out --circles_length 16 "
        "--resolution 16 --train_batch_size 4 --num_validation_images 2 --validation_steps 2 --checkpointing_steps 2"
    )
    words = [*run.split(), *command.split()]
    finetune.main([*words, "--max_train_steps", "2"], "finetune")
    finetune.main([*words, "--max_train_steps", "3", "--resume_from_checkpoint", "latest"], "finetune")
    out, (names, best) = tmp_path / "out", RECIPES[first]
    lines = [json.loads(line) for line in (out / "logs" / "train.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    assert all(names <= line.keys() for line in lines)
    metrics = json.loads((out / "metrics.json").read_text())
    distances = names - PIXEL_LOSSES.keys()
    assert {*distances, *(f"base_{name}" for name in distances)} <= metrics.keys()
    several = "perceptual" not in distances
    assert RunRecord.load(out).perceptual == (["lpips_vgg", "distance"] if several else [])
    assert RunRecord.load(out).best["metric"] == best
    card = (out / "README.md").read_text()
    assert ("perceptual distance distance of the reconstruction" in card) == several
    assert "perceptual distance" in card
    assert all(word in card for word in command.split())
    assert sys.path.count(str(tmp_path)) == 0


def test_the_guides_convnext_is_the_distance_of_its_stages(monkeypatch):
    code, model = code_of_the_guide(monkeypatch)
    names = {}
    exec(code, names)
    x, y = images(0, size=32), images(1, size=32)
    seen = [(t / 2 + 0.5 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) for t in (x, y)]
    seen = [t / torch.tensor([0.229, 0.224, 0.225])[:, None, None] for t in seen]
    expected = 0
    for stage in (1, 2):
        a, b = (model(t, output_hidden_states=True).hidden_states[stage].double() for t in seen)
        expected = expected + (a / a.norm(dim=1, keepdim=True) - b / b.norm(dim=1, keepdim=True)).square().mean(
            (1, 2, 3)
        )
    torch.testing.assert_close(names["distance"]()(x, y).double(), expected, rtol=1e-4, atol=1e-6)


def test_a_card_shows_names_of_distances_only():
    record = RunRecord(perceptual=["own", "psnr", "a | b"])
    results = Results({"own": 0.25, "psnr": 20.0, "a | b": 1.0}, record.perceptual)
    assert results.measured() == {"psnr": 20.0, "own": 0.25}
    assert "own" in str(model_card(tiny("AutoencoderKL"), {"own": 0.25, "psnr": 20.0}, record))
