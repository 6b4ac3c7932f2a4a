"""Edits of a latent by sliders, brush and codes, and their undo."""

import numpy as np
import torch

from support.lab_session import close, saved
from support.tiny_lab import LIMIT, ask, errors, kinds, levels, listen, open_lab, shown


def test_a_slider(flat):
    before = flat.latent.clone()
    heard = listen(flat)
    number = ask(flat, "edit", edits=[{"axis": "dim 3", "value": 1.25}, {"axis": "dim 1", "value": -1}])
    assert flat.wait(LIMIT)
    wanted = before.numpy().copy()
    wanted[3], wanted[1] = 1.25, -1
    close(flat.latent, wanted, 0)
    assert kinds(heard, number) == ["frame"]
    [(content, buffers)] = [message for message in heard if message[0].get("id") == number]
    with torch.no_grad():
        picture = levels(flat.model.decode(torch.from_numpy(wanted)[None]).sample[0])
    pixels = np.frombuffer(buffers[0], np.uint8).reshape(32, 32, 4)
    assert content["format"] == "rgba"
    assert content["size"] == [32, 32]
    assert np.abs(pixels[..., :3].astype(int) - picture).max() <= 1
    assert (pixels[..., 3] == 255).all()
    coordinates = dict(zip(flat.space.axes, content["coordinates"], strict=True))
    assert (coordinates["dim 3"], coordinates["dim 1"]) == (1.25, -1)


def test_a_brush_adds_to_one_channel(spatial):
    wanted = spatial.latent.numpy().copy()
    cells = [[0, 0, 1.0], [3, 2, 0.5], [3, 2, 0.25], [15, 15, 1.0], [-1, 0, 1.0], [0, 16, 1.0]]
    ask(spatial, "edit", edits=[{"paint": {"cells": cells, "channel": 2, "amount": 0.8}}])
    wanted[2, 0, 0] += 0.8
    wanted[2, 3, 2] += 0.6
    wanted[2, 15, 15] += 0.8
    close(spatial.latent, wanted, 1e-6)


def test_a_brush_copies_all_channels(spatial):
    keys, latents = saved(spatial)
    wanted = spatial.latent.numpy().copy()
    ask(spatial, "edit", edits=[{"paint": {"cells": [[1, 2, 1.0], [4, 4, 0.2], [99, 0, 1.0]], "from": keys[1]}}])
    ask(spatial, "edit", edits=[{"paint": {"cells": [[6, 7, 1.0]], "from": "mean"}}])
    wanted[:, 1, 2], wanted[:, 4, 4] = latents[1][:, 1, 2], latents[1][:, 4, 4]
    means = np.stack([spatial.encode(image).numpy() for image in spatial.images])
    wanted[:, 6, 7] = means.mean(0)[:, 6, 7]
    close(spatial.latent, wanted)


def test_a_chosen_code_is_decoded(code):
    quantizer = code.model.quantizer
    with torch.no_grad():
        _, indices, _ = quantizer(code.latent[None].clone(), update=False)
    indices = indices.clone()
    heard = listen(code)
    number = ask(code, "edit", edits=[{"code": {"y": 1, "x": 2, "stage": 1, "code": 5}}])
    assert code.wait(LIMIT)
    indices[0, 1, 2, 1] = 5
    assert torch.equal(code.indices, indices[0])
    with torch.no_grad():
        close(code.latent, quantizer.indices_to_codes(indices)[0].numpy())
        picture = levels(code.model.decode_indices(indices)[0])
    assert np.abs(shown(code) - picture).max() <= 1
    [(content, buffers)] = [message for message in heard if message[0].get("id") == number]
    sent = np.frombuffer(buffers[content["indices"]], np.int32).reshape(indices.shape[1:])
    assert np.array_equal(sent, indices[0].numpy())
    grid = np.frombuffer(buffers[content["grid"]], np.float32).reshape(code.latent.shape)
    assert np.array_equal(grid, code.latent.numpy())


def test_a_drag_is_undone_as_one(flat):
    start = flat.latent
    for i in range(10):
        ask(flat, "edit", edits=[{"axis": "dim 0", "value": i / 10}], gesture="v:1")
    after_first = flat.latent
    for i in range(10):
        ask(flat, "edit", edits=[{"axis": "dim 0", "value": -i / 10}], gesture="v:2")
    ask(flat, "edit", edits=[{"axis": "dim 1", "value": 1}])
    ask(flat, "edit", edits=[{"axis": "dim 1", "value": 2}])
    for wanted in (1.0, None, after_first, start):
        flat.undo()
        if isinstance(wanted, float):
            assert flat.latent[1].item() == wanted
        elif wanted is not None:
            assert torch.equal(flat.latent, wanted)
    assert flat.wait(LIMIT)
    with torch.no_grad():
        picture = levels(flat.model.decode(start[None].clone()).sample[0])
    assert np.abs(shown(flat) - picture).max() <= 1


def test_the_same_drag_goes_on_after_undo_as_another(flat):
    start = flat.latent
    ask(flat, "edit", edits=[{"axis": "dim 0", "value": 1}], gesture="v:9")
    ask(flat, "undo")
    ask(flat, "edit", edits=[{"axis": "dim 0", "value": 2}], gesture="v:9")
    ask(flat, "undo")
    assert torch.equal(flat.latent, start)


def test_undo_brings_back_the_original_and_the_codes(code):
    original = np.asarray(code.original)
    ask(code, "edit", edits=[{"code": {"y": 0, "x": 0, "stage": 0, "code": 3}}])
    indices = code.indices
    code.latent = torch.zeros_like(code.latent)
    assert code.original is None
    code.undo()
    assert torch.equal(code.indices, indices)
    assert np.array_equal(np.asarray(code.original), original)


def test_undo_ends_at_the_beginning():
    with open_lab("mlp", max_images=3) as lab:
        heard = listen(lab)
        for _ in range(3):
            ask(lab, "undo")
        assert lab.wait(LIMIT)
        assert errors(heard)[-1] == "there is nothing to undo."


def test_reset_is_what_the_encoder_said(flat):
    encoded = flat.encode(flat.images[0])
    ask(flat, "edit", edits=[{"axis": "dim 0", "value": 3}])
    ask(flat, "reset")
    close(flat.latent, encoded.numpy())
    flat.latent = torch.zeros_like(flat.latent)
    ask(flat, "reset")
    means = np.stack([flat.encode(image).numpy() for image in flat.images])
    close(flat.latent, means.mean(0))


def test_a_sample_of_the_posterior(flat):
    with torch.no_grad():
        q = flat.model.encode(flat.images[0][None]).latent_dist
    ask(flat, "posterior", seed=11)
    close(flat.latent, q.sample(torch.Generator().manual_seed(11))[0].numpy())
    close(flat.encode(flat.images[0], seed=11), flat.latent.numpy())
    ask(flat, "posterior", seed=None)
    close(flat.latent, q.mean[0].numpy())
