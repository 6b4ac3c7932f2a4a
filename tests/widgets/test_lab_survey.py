"""The encoding of a lab's images: how many is a matter of numbers, never of time, and what is known meanwhile."""

import threading

import pytest
import torch

from support.tiny_lab import LIMIT, open_lab, tiny
from vae_plugin.widgets import LatentLab, survey
from vae_plugin.widgets.codec import Codec
from vae_plugin.widgets.image_set import ImageSet
from vae_plugin.widgets.survey import FIRST, Survey


def make(n):
    codec = Codec(tiny("mlp"), 16)
    images = ImageSet(torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(0)), 3, (16, 16), 1000)
    return Survey(codec, images)


@pytest.mark.parametrize("n", [1, 5, FIRST, 2 * FIRST - 1, 2 * FIRST, 50, 100])
def test_axes_are_known_after_the_first_images_and_after_all(n):
    found, told, known = [], [], []
    one = make(n)
    for _ in one.steps(lambda *seen: told.append(seen), lambda space: found.append(len(space)), pytest.fail):
        known.append(one.space is not None)
    assert found == ([FIRST, n] if n >= 2 * FIRST else [n])
    assert (told[0], told[-1]) == ((0, n), (n, n))
    assert one.complete
    assert known.index(True) == FIRST // 8 - 1 if n >= 2 * FIRST else not any(known)


def test_the_number_of_images_does_not_depend_on_the_clock(monkeypatch):
    """Each image takes an hour."""
    hours = iter(range(0, 10**9, 3600))
    monkeypatch.setattr("time.perf_counter", lambda: next(hours))
    monkeypatch.setattr("time.monotonic", lambda: next(hours))
    one = make(100)
    for _ in one.steps(lambda *_: None, lambda _: None, pytest.fail):
        pass
    assert len(one.space) == 100


def test_only_memory_limits_the_number_of_images(monkeypatch):
    monkeypatch.setattr(survey, "MAX_NUMBERS", 6 * 10)
    with open_lab("mlp", max_images=30) as lab:
        assert len(lab.space) == 10
        space = lab.get_state()["_space"]
        assert (space["images"], space["total"], space["complete"]) == (10, 30, True)
        assert repr(lab.space).startswith("LatentSpace(of 10 images")


def test_the_space_is_that_of_all_images_however_early_it_is_asked_for():
    with open_lab("mlp", max_images=64) as lab:
        every = lab.space.points
    gate, model = threading.Event(), tiny("mlp")
    encode = model.encode

    def slow(x, *args, **kwargs):
        assert len(x) == 1 or gate.wait(LIMIT)
        return encode(x, *args, **kwargs)

    model.encode = slow
    lab = LatentLab(model, resolution=16, max_images=64)
    try:
        assert lab.image is not None  # the first image is there, encoded and decoded, before any other
        assert torch.equal(lab.latent, lab.encode(lab.images[0]))
        threading.Timer(0.05, gate.set).start()
        assert torch.equal(lab.space.points, every)
    finally:
        gate.set()
        lab.close()
