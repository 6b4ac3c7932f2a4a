from __future__ import annotations

import itertools
import sys

import pytest
import torch
from diffusers import AutoencoderKL

from support.tiny_diffusers import tiny
from vae_plugin.autoencoders import adapt
from vae_plugin.errors import NotFiniteError
from vae_plugin.metrics import continuity


class Stub:
    """An autoencoder whose latents are the images and whose decoder is given."""

    def __init__(self, decode):
        self.model = torch.nn.Module()
        self.model.device, self.model.dtype = torch.device("cpu"), torch.float32
        self._decode = decode

    def latents(self, x):
        return x

    def decode(self, z, image_size=None):
        return self._decode(z)


@pytest.fixture
def measured(monkeypatch):
    def measure(decode, first, second, steps=4):
        monkeypatch.setattr(sys.modules[continuity.__module__], "adapt", lambda model: Stub(decode))
        return continuity(None, first, second, steps)

    return measure


A, B = -0.5 * torch.ones(2, 1, 4, 4), 0.5 * torch.ones(2, 1, 4, 4)


def test_the_path_in_pixels_moves_by_one(measured):
    assert measured(lambda z: z, A, B) == pytest.approx((1, 1, 1, 2))


def test_a_jump_is_all_steps_in_one(measured):
    found = measured(lambda z: torch.where(z > 0.1, 1.0, -1.0), A, B)
    assert found == pytest.approx((1, 4, 4, 2))


def test_a_detour_is_longer(measured):
    # From 0 to 1 and back, and then on: a half, a half and twice as far in four steps.
    points = {-0.5: 0.0, -0.25: 0.5, 0.0: 0.0, 0.25: 0.5, 0.5: 1.0}
    found = measured(lambda z: torch.full_like(z, points[round(z.flatten()[0].item(), 2)]), A[:1], B[:1])
    assert found == pytest.approx((2, 2, 2, 1))


def test_pairs_that_decode_alike_are_left_out(measured):
    assert measured(lambda z: z, torch.cat([A, A]), torch.cat([A, B])).pairs == 2
    with pytest.raises(ValueError, match="decode to the same image"):
        measured(lambda z: 0 * z, A, B)
    with pytest.raises(NotFiniteError):
        measured(lambda z: z / 0 * 0, A, B)


def test_of_a_model_by_its_own_encode_and_decode():
    model = tiny("AutoencoderKL").eval()
    assert isinstance(model, AutoencoderKL)
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        a, b = model.encode(x).latent_dist.mean
        path = [model.decode(((1 - t) * a + t * b)[None]).sample.clamp(-1, 1).double() for t in (0, 0.5, 1)]
    steps = [2 * (q - p).norm() / (path[2] - path[0]).norm() for p, q in itertools.pairwise(path)]
    found = continuity(adapt(model), x[:1], x[1:], steps=2)
    assert found.mean == pytest.approx(float(sum(steps) / 2), rel=1e-4)
    assert found.worst == pytest.approx(float(max(steps)), rel=1e-4)
