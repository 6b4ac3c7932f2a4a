"""The Fréchet distance against scipy's matrix root, and its network."""

import sys
from types import ModuleType

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from support.tiny_diffusers import tiny
from vae_plugin import metrics
from vae_plugin.errors import NotFiniteError, UserError
from vae_plugin.metrics.frechet import FeatureMoments, InceptionFeatures, frechet_distance

FEATURES = torch.nn.Sequential(nn.Conv2d(3, 5, 3, 2), nn.Tanh())


def moments(vectors):
    found = FeatureMoments()
    for part in vectors.split(7):
        found.update(part)
    return found


def by_scipy(one, other):
    roots = scipy.linalg.sqrtm(np.cov(one, rowvar=False) @ np.cov(other, rowvar=False))
    traces = np.trace(np.cov(one, rowvar=False) + np.cov(other, rowvar=False) - 2 * roots.real)
    return float(((one.mean(0) - other.mean(0)) ** 2).sum() + traces)


def test_it_is_that_of_scipy_and_merges():
    noise = torch.Generator().manual_seed(0)
    one = torch.randn(60, 6, generator=noise, dtype=torch.float64) @ torch.randn(6, 6, generator=noise).double() + 1e3
    other = torch.randn(40, 6, generator=noise, dtype=torch.float64) * 2 + 1e3
    expected = by_scipy(one.numpy(), other.numpy())
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(moments(one), moments(one)) == pytest.approx(0, abs=1e-8)
    shifted = frechet_distance(moments(one), moments(one + 3))
    assert shifted == pytest.approx(6 * 9, rel=1e-8)  # the same covariance: the means alone


def test_fewer_images_than_features_have_a_distance_too():
    """Two points each: C = v v^T, whose root has the trace |v1 . v2|."""
    one, other = torch.zeros(2, 4).double(), torch.zeros(2, 4).double()
    one[0, 0], other[0, 0], other[0, 1] = 2, 2, 2
    v1, v2 = np.array([2, 0]) / 2**0.5, np.array([2, 2]) / 2**0.5
    expected = 1 + v1 @ v1 + v2 @ v2 - 2 * abs(v1 @ v2)
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(expected)


def test_it_is_measured_of_8_bit_images_and_says_when_they_are_few(capsys):
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    model = tiny("AutoencoderKL")
    measured = metrics.evaluate(model, x.split(3), measures=[metrics.FrechetDistance(FEATURES, "own")])
    images = [((t.clamp(-1, 1) * 127.5 + 127.5).round() - 127.5) / 127.5 for t in (x, model(x).sample.detach())]
    expected = by_scipy(*(FEATURES(t).detach().mean((2, 3)).double().numpy() for t in images))
    assert measured["own"] == pytest.approx(expected, abs=1e-7, rel=1e-3)
    assert "own is of 4 images and 5 features" in capsys.readouterr().err
    assert "own" not in metrics.evaluate(model, [x[:1]], measures=[metrics.FrechetDistance(FEATURES, "own")])
    assert "own is absent" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (lambda x: x.flatten(1) * float("nan"), NotFiniteError, "a feature that a Fréchet distance compares"),
        (lambda x: x.mean(), UserError, r"features of shape \(\)"),
        (lambda x: x.flatten(1)[:, : 2 + len(x)], UserError, r"features of shape \(1, 3\) for 1 image"),
    ],
)
def test_features_that_are_none_are_refused(network, error, message):
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with pytest.raises(error, match=message):
        metrics.evaluate(tiny("AutoencoderKL"), x.split(2), measures=[metrics.FrechetDistance(network)])


def test_a_distance_has_a_value_for_each_image():
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match=r"own gives values of shape \(1,\) for 3 image"):
        metrics.evaluate(tiny("AutoencoderKL"), [x], compare=lambda x, y: {"own": x.mean().flatten()})


def test_inception_is_given_bytes_of_three_channels_or_named_as_missing(monkeypatch):
    class Extractor(nn.Module):
        def __init__(self, name, features):
            super().__init__()
            assert (name, features) == ("inception-v3-compat", ["2048"])

        def forward(self, images):
            assert images.dtype == torch.uint8
            assert images.shape[1] == 3
            return (images.float().mean((2, 3)),)

    module = ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Extractor
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for channels in (1, 2, 3, 4, 12):
        features = InceptionFeatures()(torch.ones(2, channels, 8, 8))
        assert (features == 255).all()
    monkeypatch.setitem(sys.modules, module.__name__, None)
    with pytest.raises(UserError, match=r"--fid inception needs the packages torch-fidelity and torchvision"):
        InceptionFeatures()
