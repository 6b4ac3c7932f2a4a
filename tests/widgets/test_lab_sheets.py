"""Arithmetic with saved latents, and sheets of pictures: strips, samples, planes, codes."""

import math

import numpy as np
import pytest
import torch

from support.lab_session import busy, close, decoded, fresh, pictures, saved
from support.tiny_lab import LIMIT, ask, kinds, listen


def test_analogy(spatial):
    keys, (a, b, c) = saved(spatial)
    ask(spatial, "combine", operation={"op": "analogy", **dict(zip("abc", keys, strict=True))})
    close(spatial.latent, a - b + c)


def test_weighted_sum(spatial):
    keys, (a, _, c) = saved(spatial)
    weights = dict(zip(keys, (0.5, 0, -1.5), strict=True))
    ask(spatial, "combine", operation={"op": "sum", "weights": weights})
    close(spatial.latent, 0.5 * a - 1.5 * c)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_between_on_a_line(spatial, t):
    keys, (a, b, _) = saved(spatial)
    ask(spatial, "combine", operation={"op": "between", "a": keys[0], "b": keys[1], "t": t, "method": "lerp"})
    close(spatial.latent, (1 - t) * a + t * b)


@pytest.mark.parametrize("lab", ["flat", "spatial"])
def test_between_on_a_sphere(lab, request):
    lab = request.getfixturevalue(lab)
    keys, (a, b, _) = saved(lab)
    t = 0.3
    ask(lab, "combine", operation={"op": "between", "a": keys[0], "b": keys[1], "t": t, "method": "slerp"})
    wanted = np.empty_like(a)
    for y in range(a.shape[1]):
        for x in range(a.shape[2]):
            u, v = a[:, y, x], b[:, y, x]
            m, n = np.linalg.norm(u), np.linalg.norm(v)
            angle = math.acos(u @ v / m / n)
            on_sphere = math.sin((1 - t) * angle) * u / m + math.sin(t * angle) * v / n
            wanted[:, y, x] = on_sphere / math.sin(angle) * ((1 - t) * m + t * n)
    close(lab.latent, wanted, 1e-4)


def test_an_attribute_is_added_to_the_latent_before_the_drag(spatial):
    keys, (a, b, c) = saved(spatial)
    base = spatial.latent.numpy().copy()
    for strength in (0.5, 1.0, -2.0):
        operation = {"op": "attribute", "with": keys[:2], "without": keys[2:], "strength": strength}
        ask(spatial, "combine", operation=operation, gesture="v:77")
        close(spatial.latent, base + strength * ((a + b) / 2 - c))
    ask(spatial, "combine", operation={**operation, "strength": 1.0}, gesture="v:78")
    close(spatial.latent, base - 1.0 * ((a + b) / 2 - c))
    spatial.undo()
    spatial.undo()
    close(spatial.latent, base, 0)


def test_an_attribute_of_the_data(flat):
    base = flat.latent.numpy().copy()
    radius = flat.labels["radius"].values
    means = np.stack([flat.encode(image).numpy() for image in flat.images])
    large = radius > np.sort(radius)[(len(radius) - 1) // 2]
    ask(flat, "combine", operation={"op": "attribute", "label": "radius", "strength": 1.5})
    close(flat.latent, base + 1.5 * (means[large].mean(0) - means[~large].mean(0)))
    close(flat.group("radius"), means[large])
    close(flat.group("radius", inside=False), means[~large])


def test_a_strip_along_an_axis(flat):
    heard = listen(flat)
    number = ask(flat, "strip", axis="dim 2", low=-2, high=2, steps=11)
    assert flat.wait(LIMIT)
    latents = flat.latent.repeat(11, 1, 1, 1)
    latents[:, 2, 0, 0] = torch.linspace(-2, 2, 11)
    found = pictures(heard, "strip")
    assert len(found) == 11
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(found, decoded(flat, latents), strict=True))
    assert set(kinds(heard, number)) == {"sheet"}


def test_a_strip_between_two(flat):
    keys, (a, b, _) = saved(flat)
    heard = listen(flat)
    ask(flat, "strip", a=keys[0], b=keys[1], steps=5, method="lerp")
    assert flat.wait(LIMIT)
    latents = torch.stack([torch.from_numpy((1 - t) * a + t * b) for t in np.linspace(0, 1, 5)])
    found = pictures(heard, "strip")
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(found, decoded(flat, latents), strict=True))


def test_samples_of_the_prior(flat):
    heard = listen(flat)
    ask(flat, "prior", n=9, seed=3)
    assert flat.wait(LIMIT)
    latents = torch.randn(9, *flat.latent.shape, generator=torch.Generator().manual_seed(3))
    found = pictures(heard, "prior")
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(found, decoded(flat, latents), strict=True))
    ask(flat, "adopt", sheet="prior", index=7)
    assert torch.equal(flat.latent, latents[7])


def test_a_plane_of_the_space(flat):
    heard = listen(flat)
    ask(flat, "manifold", x="dim 0", y="dim 4", ranges=[[-2, 2], [-1, 1]], n=4)
    assert flat.wait(LIMIT)
    latents = flat.latent.repeat(16, 1, 1, 1)
    for i in range(16):  # from the upper left, at the middles of the squares
        latents[i, 0], latents[i, 4] = [-1.5, -0.5, 0.5, 1.5][i % 4], [0.75, 0.25, -0.25, -0.75][i // 4]
    found = pictures(heard, "manifold")
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(found, decoded(flat, latents), strict=True))


def test_the_codes_to_choose_from(fsq_lab):
    lab = fresh(fsq_lab)
    heard = listen(lab)
    ask(lab, "palette", y=3, x=4, stage=0)
    assert lab.wait(LIMIT)
    [content] = [content for content, _ in heard if content.get("sheet") == "palette" and content["first"] == 0]
    quantizer = lab.model.quantizer
    size = quantizer.codebook_size
    with torch.no_grad():
        every = quantizer.indices_to_codes(torch.arange(size).view(1, 1, -1))[0, :, 0].double().numpy()
    present = int(lab.indices[3, 4])
    distances = np.linalg.norm(every - every[:, present : present + 1], axis=0)
    assert content["codes"][0] == present
    found = distances[content["codes"]]
    assert (np.diff(found) > -1e-6).all()
    np.testing.assert_allclose(found, np.sort(distances)[: len(found)], atol=1e-5)
    assert len(pictures(heard, "palette")) == min(size, 96)
    ask(lab, "palette", y=3, x=4, stage=0, order="number")
    assert lab.wait(LIMIT)
    codes = [content["codes"] for content, _ in heard if content.get("sheet") == "palette"][-1]
    assert codes == list(range(min(size, 96)))


def test_each_of_several_sheets_is_answered(flat):
    heard = listen(flat)
    with busy(flat):
        numbers = [ask(flat, "prior", n=4, seed=seed) for seed in range(3)]
    assert flat.wait(LIMIT)
    assert [kinds(heard, number) for number in numbers] == [["dropped"], ["dropped"], ["sheet"]]
