"""Several models on the same images: accumulators against whole tensors, and paired differences."""

import json
import re

import numpy as np
import pytest
import scipy.stats
import torch
from diffusers import AutoencoderKL

from support.tiny_diffusers import tiny
from vae_plugin import metrics
from vae_plugin.autoencoders import adapt
from vae_plugin.cli import main
from vae_plugin.commands.source import ModelPlace, distinct_names
from vae_plugin.errors import UserError
from vae_plugin.metrics.comparison import bootstrap_95
from vae_plugin.training.settings.data import circles_for

OWN = """
from torch import nn

class Features(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))

class Distance(nn.Module):
    def forward(self, x, y):
        return (x - y).abs().mean((1, 2, 3)).detach()  # no gradient is needed to measure

features, distance = Features, Distance
"""
IMAGES = torch.rand(7, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two models of RGB images, one that gives NaN, and one of gray images."""
    folder = tmp_path_factory.mktemp("models")
    tiny("AutoencoderKL").save_pretrained(folder / "a" / "out")
    tiny("AutoencoderTiny").save_pretrained(folder / "b" / "out")
    broken = tiny("AutoencoderKL")
    with torch.no_grad():
        weight = broken.decoder.conv_out.weight
        weight.copy_(torch.where(weight > 0, 3e38, -3e38))
    broken.save_pretrained(folder / "broken")
    adapter = adapt(tiny("AutoencoderKL"))
    adapter.adapt_channels(1)
    adapter.save(folder / "gray")
    return folder


def test_what_is_accumulated_is_what_whole_tensors_give():
    adapter = adapt(tiny("AutoencoderKL"))
    per_set = [metrics.KLPerChannel(), metrics.LatentMoments()]
    measured = metrics.evaluate(adapter, IMAGES.split(3), measures=per_set)
    with torch.no_grad():
        q = adapter.posterior(IMAGES)
    assert measured["active_units"] == metrics.active_units(q.mean)
    given = measured.per_channel
    assert given["kl_nats_per_channel"] == pytest.approx(q.kl_per_dimension().sum((2, 3)).mean(0).tolist(), rel=1e-5)
    assert sum(given["kl_nats_per_channel"]) == pytest.approx(measured["kl_nats"], rel=1e-5)
    assert given["latent_mean_per_channel"] == pytest.approx(q.mean.mean((0, 2, 3)).tolist(), rel=1e-4, abs=1e-6)
    assert given["latent_std_per_channel"] == pytest.approx(q.mean.std((0, 2, 3), correction=0).tolist(), rel=1e-5)
    factor = adapter.config.scaling_factor
    expected = [factor * value for value in given["latent_std_per_channel"]]
    assert given["pipeline_std_per_channel"] == pytest.approx(expected, rel=1e-5)
    x, y = (((images.clamp(-1, 1) + 1) * 127.5).round() / 127.5 for images in (IMAGES, adapter.reconstruct(IMAGES)))
    assert measured["mse"] == pytest.approx((x - y).square().mean().item(), rel=1e-5)
    assert measured["l1"] == pytest.approx((x - y).abs().mean().item(), rel=1e-5)
    errors = torch.tensor(measured.per_image["mse"])
    assert measured.per_image["psnr"] == pytest.approx((10 * torch.log10(4 / errors)).tolist(), rel=1e-5)
    assert measured.half_widths()["l1"] == pytest.approx(
        scipy.stats.t.interval(0.95, 6, scale=scipy.stats.sem(measured.per_image["l1"]))[1], rel=1e-6
    )


def test_paired_differences_are_those_of_the_images_with_the_bootstrap_of_scipy():
    noise = np.random.default_rng(0)
    values = noise.gamma(2, size=60)
    expected = scipy.stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=noise)
    low, high = bootstrap_95(values)
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert low == pytest.approx(expected.confidence_interval.low, abs=0.05 * width)
    assert high == pytest.approx(expected.confidence_interval.high, abs=0.05 * width)
    one, other = (metrics.Evaluation({}, {"psnr": each.tolist()}) for each in (values, values + 1))
    paired = metrics.paired_differences({"one": one, "other": other})["other"]["psnr"]
    assert paired == pytest.approx({"difference": 1, "low": 1, "high": 1})
    with pytest.raises(ValueError, match="other and one were measured on different images"):
        metrics.paired_differences({"one": one, "other": metrics.Evaluation({}, {"psnr": [1.0]})})


def test_images_in_another_range_are_named(capsys):
    model = tiny("AutoencoderKL")
    with pytest.raises(UserError, match=r"from 0\.\d+ to 25\d\.\d+: give images in \[-1, 1\], such as image / 127\.5"):
        metrics.evaluate(model, [(IMAGES + 1) * 127.5])
    with pytest.raises(UserError, match=r"such as image\.clamp\(-1, 1\)"):
        metrics.evaluate(model, [IMAGES * 1.5])
    metrics.evaluate(model, [(IMAGES + 1) / 2])
    assert "as if they were in [0, 1]" in capsys.readouterr().err
    metrics.evaluate(model, [IMAGES])
    assert not capsys.readouterr().err


def test_names_tell_models_apart():
    place = ModelPlace
    assert distinct_names([place("user/sd"), place("other/flux", "vae")]) == ["sd", "flux/vae"]
    assert distinct_names([place("/x/a/out"), place("/x/b/out")]) == ["a/out", "b/out"]
    assert distinct_names([place("u/m"), place("u/m", revision="v2"), place("u/m")]) == ["m", "m@v2", "m (2)"]


def test_one_command_measures_several_models_on_the_same_images(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_features.py").write_text(OWN)
    a, b, broken = (str(folders / name) for name in ("a/out", "b/out", "broken"))
    words = ["--circles_hue", "--resolution", "16", "--max_images", "5", "--output_file", str(tmp_path / "all.json")]
    words += ["--precisions", "bf16", "--fid", "own_features:features", "--perceptual", "own_features:distance"]
    assert main(["evaluate", a, b, broken, a, *words]) == 0
    printed = capsys.readouterr()
    assert "broken is left out: the reconstruction of 5 of 5 images is NaN" in printed.err
    assert "\x1b" not in printed.out
    result = json.loads((tmp_path / "all.json").read_text())
    assert list(result["models"]) == ["a/out", "b/out", "broken", "a/out (2)"]
    assert "error" in result["models"]["broken"]
    assert result["models"]["a/out (2)"] == result["models"]["a/out"]
    assert result["paired"]["a/out (2)"]["psnr"] == {"difference": 0, "low": 0, "high": 0}
    difference = result["models"]["b/out"]["psnr"] - result["models"]["a/out"]["psnr"]
    assert result["paired"]["b/out"]["psnr"]["difference"] == pytest.approx(difference, abs=1e-5)
    lines = printed.out.splitlines()
    assert re.search(r"a/out +b/out +broken +a/out \(2\)", printed.out)
    [psnr] = [line for line in lines if line.strip().startswith("PSNR, dB ")]
    found = result["models"]["b/out"]
    shown = f"{found['psnr']:.4g} ± {found['ci95']['psnr']:.2g}  ({difference:+.3g}, "
    assert shown in psnr
    assert " - " in psnr
    with torch.no_grad():
        x = circles_for(3, 5, 16, seed=1, hue=True)
        x = torch.stack([x[i]["pixel_values"] for i in range(5)])
        y = AutoencoderKL.from_pretrained(a).eval()(x).sample
    x, y = (((t.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1 for t in (x, y))
    expected = (x - y).abs().mean((1, 2, 3)).mean().item()
    assert result["models"]["a/out"]["distance"] == pytest.approx(expected, rel=1e-4)
    assert result["models"]["a/out"]["frechet_features"] > 0
    assert result["models"]["a/out"]["bf16_psnr"] > 20
    assert main(["evaluate", a, "--json", *words]) == 0
    alone = json.loads((tmp_path / "all.json").read_text())
    assert json.loads(capsys.readouterr().out.rpartition("}")[0] + "}") == alone
    setting = alone.pop("setting")
    assert setting["seed"] == 1
    assert setting["options"] == {
        **{"circles_hue": True, "resolution": 16, "max_images": 5, "precisions": ["bf16"]},
        **{"fid": "own_features:features", "perceptual": ["own_features:distance"]},
    }
    assert alone == result["models"]["a/out"]


def test_models_that_cannot_be_given_the_same_images_are_refused(folders, capsys):
    a, broken = str(folders / "a" / "out"), str(folders / "broken")
    for words, message in {
        (a, str(folders / "gray")): "gray takes images of 1 channel(s) and out of 3",
        (a, a, "--subfolder", "x", "--subfolder", "y", "--subfolder", "z"): "--subfolder is given 3 times for 2 model",
        (
            broken,
            broken,
            "--circles_hue",
            "--max_images",
            "2",
            "--resolution",
            "16",
        ): "none of the models gives numbers",
    }.items():
        assert main(["evaluate", *words]) == 2
        assert message in capsys.readouterr().err
