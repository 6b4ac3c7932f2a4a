"""Pictures that keep up with a drag, however slow the decoder."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from support.lab_session import busy, gaussian
from support.tiny_lab import LIMIT, ask, errors, kinds, levels, listen, shown, tiny
from vae_plugin.widgets import rendering
from vae_plugin.widgets.codec import Codec, Superseded


@pytest.mark.parametrize("at_once", [math.inf, 0.0])
def test_many_fast_edits_end_on_the_last(flat, monkeypatch, at_once):
    monkeypatch.setattr(rendering, "AT_ONCE", at_once)  # in the kernel's thread, or in the lab's
    heard = listen(flat)
    n = 500 if at_once == 0 else 100
    numbers = [ask(flat, "edit", edits=[{"axis": "dim 0", "value": i / n}], gesture="v:1") for i in range(n)]
    assert flat.wait(LIMIT)
    answers = [kinds(heard, number) for number in numbers]
    assert set(map(tuple, answers)) <= {("frame",), ("dropped",)}  # each once
    assert answers[-1] == ["frame"]
    frames = [content for content, _ in heard if content["kind"] == "frame"]
    values = [dict(zip(flat.space.axes, frame["coordinates"], strict=True))["dim 0"] for frame in frames]
    assert values == sorted(values)
    assert values[-1] == pytest.approx((n - 1) / n)
    assert flat.latent[0].item() == pytest.approx((n - 1) / n)
    with torch.no_grad():
        picture = levels(flat.model.decode(flat.latent[None].clone()).sample[0])
    assert np.abs(shown(flat) - picture).max() <= 1


def test_a_fast_decoder_shows_every_edit_while_the_worker_is_idle(flat, monkeypatch):
    monkeypatch.setattr(rendering, "AT_ONCE", math.inf)
    monkeypatch.setattr(flat._session.worker, "settle", lambda work, seconds: None)  # nothing to do in between
    heard = listen(flat)
    numbers = [ask(flat, "edit", edits=[{"axis": "dim 0", "value": i / 50}], gesture="v:1") for i in range(50)]
    assert [kinds(heard, number) for number in numbers] == [["frame"]] * 50  # at once, without waiting


def test_a_drag_on_a_busy_worker_shows_one_picture(flat):
    heard = listen(flat)
    with busy(flat):
        numbers = [ask(flat, "edit", edits=[{"axis": "dim 0", "value": i / 50}], gesture="v:1") for i in range(50)]
    assert flat.wait(LIMIT)
    assert [kinds(heard, number) for number in numbers] == [["dropped"]] * 49 + [["frame"]]


def test_a_slow_decoder_shows_a_smaller_picture_first(spatial, monkeypatch):
    monkeypatch.setattr(spatial._session.codec, "decode_seconds", 0.2)
    heard = listen(spatial)
    number = ask(spatial, "edit", edits=[{"axis": "channel 0", "value": 0.5}])
    assert spatial.wait(LIMIT)
    frames = [(content, buffers) for content, buffers in heard if content["kind"] == "frame"]
    assert [content["preview"] for content, _ in frames] == [True, False]
    assert [content["size"] for content, _ in frames] == [[16, 16], [32, 32]]
    assert kinds(heard, number) == ["frame"]
    assert frames[0][0]["id"] == number
    with torch.no_grad():
        small = levels(spatial.model.decode(F.avg_pool2d(spatial.latent[None], 2)).sample[0])
        full = levels(spatial.model.decode(spatial.latent[None].clone()).sample[0])
    for (_, buffers), wanted in zip(frames, (small, full), strict=True):
        pixels = np.frombuffer(buffers[0], np.uint8).reshape(*wanted.shape[:2], 4)
        assert np.abs(pixels[..., :3].astype(int) - wanted).max() <= 1
    assert np.abs(shown(spatial) - full).max() <= 1


def test_a_full_picture_is_given_up_for_a_newer_request(spatial, monkeypatch):
    codec = spatial._session.codec
    monkeypatch.setattr(codec, "decode_seconds", 1.0)
    heard, sides = listen(spatial), []

    def on_way(_, inputs):
        sides.append(inputs[0].shape[-1])
        if sides.count(16) == 1 and sides[-1] == 16:  # the first full picture has begun
            ask(spatial, "edit", edits=[{"axis": "channel 0", "value": 0.75}])

    hook = spatial.model.decoder.conv_in.register_forward_pre_hook(on_way)
    try:
        ask(spatial, "edit", edits=[{"axis": "channel 0", "value": 0.25}])
        assert spatial.wait(LIMIT)
    finally:
        hook.remove()
    frames = [content for content, _ in heard if content["kind"] == "frame"]
    assert [frame["preview"] for frame in frames] == [True, True, False]
    values = [dict(zip(spatial.space.axes, frame["coordinates"], strict=True))["channel 0"] for frame in frames]
    assert values == pytest.approx([0.25, 0.75, 0.75], abs=1e-5)
    assert errors(heard) == []


def test_a_slow_decoder_stops_between_its_layers():
    model = tiny("AutoencoderKL")
    codec = Codec(model, 16)
    z, done = torch.zeros(codec.latent_shape), []
    layers = [module for module in model.decoder.modules() if not any(module.children())]
    hooks = [layer.register_forward_hook(lambda *_: done.append(1)) for layer in layers]
    codec.decode_full(z, None, lambda: True)  # not known to be slow
    every = len(done)
    done.clear()
    codec.decode_seconds = 1.0
    with pytest.raises(Superseded):
        codec.decode_full(z, None, lambda: len(done) == 5)
    assert len(done) == 5 < every
    assert codec.decode_seconds == 1.0
    done.clear()
    image = codec.decode_full(z, None, lambda: False)
    assert len(done) == every
    with torch.no_grad():
        torch.testing.assert_close(image, model.decode(z[None]).sample[0])
    for hook in hooks:
        hook.remove()
    assert all(not layer._forward_pre_hooks for layer in layers)


def test_a_small_picture_says_how_it_was_made(spatial):
    codec = spatial._session.codec
    z = gaussian(*codec.latent_shape)
    indices = None
    for shrink in (2, 4):
        with torch.no_grad():
            wanted = spatial.model.decode(F.avg_pool2d(z[None], shrink)).sample[0]
        torch.testing.assert_close(codec.decode_preview(z, indices, shrink), wanted, rtol=1e-4, atol=1e-4)
