"""Axes of a latent space against numpy's decompositions and fits, and diffusers' own divergence."""

import numpy as np
import pytest
import torch

from support.tiny_lab import one_sentence, tiny
from vae_plugin.datasets import Circles
from vae_plugin.errors import UserError
from vae_plugin.widgets.codec import Codec
from vae_plugin.widgets.image_set import ImageSet, Labels
from vae_plugin.widgets.space import LatentSpace
from vae_plugin.widgets.survey import encode_in_batches, merge

N = 40
WORDS = ["cat", "dog", "it's"]


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def space_of(*shape):
    means = gaussian(N, *shape) * torch.linspace(0.3, 2, shape[0]).view(-1, 1, 1) + 0.5
    rng = np.random.default_rng(0)
    labels = {
        "height": Labels(10 + 3 * means[:, 0].mean((1, 2)).double().numpy() + rng.normal(size=N)),
        "animal": Labels(np.arange(N) % 3.0, WORDS),
    }
    return LatentSpace(means, None, labels)


@pytest.fixture(params=[(5, 1, 1), (4, 3, 6)], ids=["flat", "spatial"])
def space(request):
    return space_of(*request.param)


@pytest.fixture
def z(space):
    return gaussian(*space.mean.shape, seed=9)


def groups(space):
    return {axis.group for axis in space.axes.values()}


def test_there_are_axes_of_every_kind(space):
    first = "dimensions" if space.flat else "channels"
    assert groups(space) == {first, "directions", "labels"}
    assert [key for key, axis in space.axes.items() if axis.group == "labels"] == [
        "label height",
        *(f"label animal: {word}" for word in WORDS),
    ]
    assert space.points.shape == (N, len(space.axes))


def test_a_moved_latent_has_the_coordinate(space, z):
    for i, key in enumerate(space.axes):
        before = z.clone()
        for value in (-1.7, 0.0, 2.5):
            moved = space.move(z, key, value)
            assert space.coordinate(moved, key) == pytest.approx(value, abs=2e-5)
            assert space.coordinates(moved)[i].item() == pytest.approx(value, abs=2e-5)
            back = space.move(moved, key, space.coordinate(z, key))
            torch.testing.assert_close(back, z, rtol=0, atol=2e-5)
        assert torch.equal(z, before)


def test_axes_of_one_group_leave_each_other_alone(space, z):
    coordinates = space.coordinates(z)
    for i, (key, axis) in enumerate(space.axes.items()):
        if axis.group == "labels":
            continue
        moved = space.coordinates(space.move(z, key, 3.0))
        same = [j for j, other in enumerate(space.axes.values()) if other.group == axis.group and j != i]
        torch.testing.assert_close(moved[same], coordinates[same], rtol=0, atol=1e-5)


def test_a_dimension_is_one_number():
    space, z = space_of(5, 1, 1), gaussian(5, 1, 1, seed=9)
    for i in range(5):
        wanted = z.clone()
        wanted[i] = 1.25
        assert torch.equal(space.move(z, f"dim {i}", 1.25), wanted)


def test_a_channel_keeps_its_pattern():
    space, z = space_of(4, 3, 6), gaussian(4, 3, 6, seed=9)
    moved = space.move(z, "channel 2", 1.25)
    wanted = z.numpy().copy()
    wanted[2] += 1.25 - wanted[2].mean()
    np.testing.assert_allclose(moved, wanted, atol=1e-6)


def test_coordinates_against_numpy(space, z):
    data, mean = space.means.double().flatten(1).numpy(), space.means.double().flatten(1).numpy().mean(0)
    point = z.double().flatten().numpy()
    _, singular, rows = np.linalg.svd(data - mean, full_matrices=False)
    found = dict(zip(space.axes, space.coordinates(z).tolist(), strict=True))
    for key, axis in space.axes.items():
        if axis.group == "dimensions":
            wanted = point[axis.index]
        elif axis.group == "channels":
            wanted = z[axis.index].double().mean().item()
        elif axis.group == "directions":
            row = rows[axis.index] * np.sign(rows[axis.index][np.abs(rows[axis.index]).argmax()])
            wanted = (point - mean) @ row / (singular[axis.index] / np.sqrt(N))
        else:
            slope = space.slopes[axis.index].double().flatten().numpy()
            wanted = (point - mean) @ slope / (slope @ slope) + axis.middle
        assert found[key] == pytest.approx(wanted, abs=1e-4), key
        assert space.coordinate(z, key) == pytest.approx(wanted, abs=1e-4), key


def test_directions_are_those_of_numpys_decomposition(space):
    data = space.means.double().flatten(1).numpy()
    _, singular, rows = np.linalg.svd(data - data.mean(0), full_matrices=False)
    count = len(space.directions)
    assert count == min(12, data.shape[1])
    directions = space.directions.flatten(1).double().numpy()
    np.testing.assert_allclose(np.abs((directions * rows[:count]).sum(1)), 1, atol=1e-4)
    np.testing.assert_allclose(directions @ directions.T, np.eye(count), atol=1e-5)
    np.testing.assert_allclose(space.scales, singular[:count] / np.sqrt(N), rtol=1e-4)
    shares = 100 * singular**2 / (singular**2).sum()
    details = [axis.detail for axis in space.axes.values() if axis.group == "directions"]
    assert details == [f"{share:.0f} % of variance" for share in shares[:count]]
    # Half a turn would be the same direction: the largest component is positive.
    assert (directions[np.arange(count), np.abs(directions).argmax(1)] > 0).all()


def test_data_in_a_plane_have_two_directions():
    means = gaussian(N, 2) @ gaussian(2, 6, seed=1)
    assert len(LatentSpace(means.view(N, 6, 1, 1)).directions) == 2


def test_slopes_are_those_of_a_line_through_the_data():
    space = space_of(5, 1, 1)
    data = space.means.double().flatten(1).numpy()
    rng = np.random.default_rng(0)
    height = 10 + 3 * data[:, 0] + rng.normal(size=N)
    for d in range(5):
        slope, _ = np.polyfit(height, data[:, d], 1)
        assert space.slopes[0, d].item() == pytest.approx(slope, abs=1e-5)
        moved = space.move(space.mean, "label height", height.mean() + 1)
        assert (moved - space.mean)[d].item() == pytest.approx(slope, abs=1e-4)
    assert space.coordinate(space.mean, "label height") == pytest.approx(height.mean(), abs=1e-4)


def test_the_slope_of_a_category_is_the_difference_of_means(space):
    animal = np.arange(N) % 3
    for k, word in enumerate(WORDS):
        index = space.axes[f"label animal: {word}"].index
        difference = space.means[animal == k].mean(0) - space.means[animal != k].mean(0)
        torch.testing.assert_close(space.slopes[index], difference, rtol=0, atol=1e-5)


def test_labels_that_say_nothing_have_no_axis():
    means = gaussian(N, 3, 1, 1)
    labels = {
        "constant": Labels(np.ones(N)),
        "unknown": Labels(np.full(N, np.nan)),
        "one kind": Labels(np.zeros(N), ["all"]),
        "useful": Labels(np.arange(N) / 7),
    }
    space = LatentSpace(means, None, labels)
    assert [key for key in space.axes if key.startswith("label")] == ["label useful"]
    assert space.points.isfinite().all()


def test_labels_of_more_images_than_were_looked_at():
    means = gaussian(N, 3, 1, 1)
    values = means[:, 1, 0, 0].double().numpy()
    more = LatentSpace(means, None, {"second": Labels(np.concatenate([values, np.full(100, 1e6)]))})
    exactly = LatentSpace(means, None, {"second": Labels(values)})
    assert torch.equal(more.slopes, exactly.slopes)
    assert more.axes == exactly.axes


@pytest.mark.parametrize("shape", [(5, 1, 1), (4, 3, 6)])
def test_one_image_and_equal_images_have_a_space_too(shape):
    z = gaussian(*shape)
    for n in (1, 3):
        space = LatentSpace(z.expand(n, *shape), None, {"height": Labels(np.ones(n))})
        assert len(space.axes) == shape[0], n  # none is a direction or says anything of a label
        assert space.points.isfinite().all()
        key = next(iter(space.axes))
        assert space.coordinate(space.move(z, key, 2.0), key) == pytest.approx(2, abs=1e-5)


def test_samples_have_the_mean_and_covariance_of_the_data():
    space = space_of(3, 1, 1)
    data = space.means.flatten(1).numpy()
    samples = space.sample(40_000, torch.Generator().manual_seed(0)).flatten(1).numpy()
    covariance = np.cov(data.T, bias=True)
    # Of 40 000 samples the standard error is 1/200 of a deviation, of a variance 1/140 of it.
    np.testing.assert_allclose(samples.mean(0), data.mean(0), atol=0.03)
    np.testing.assert_allclose(np.cov(samples.T), covariance, atol=0.04 * covariance.max())
    again = space.sample(3, torch.Generator().manual_seed(5))
    assert torch.equal(again, space.sample(3, torch.Generator().manual_seed(5)))


def test_an_axis_that_is_not_there(space, z):
    for call in (lambda: space.move(z, "dim 99", 1.0), lambda: space.coordinate(z, "dim 99")):
        with pytest.raises(UserError, match="dim 99") as raised:
            call()
        assert one_sentence(raised.value)


def test_sliders_cover_the_data(space):
    for i, axis in enumerate(space.axes.values()):
        points = space.points[:, i]
        if axis.group == "labels":
            assert axis.low < axis.middle < axis.high
        else:  # three deviations
            assert ((points >= axis.low) & (points <= axis.high)).float().mean() > 0.95, axis
    animal = space.axes["label animal: cat"]
    assert (animal.low, animal.high) == (-0.5, 1.5)


# --- of models ---


def test_dimensions_are_in_the_order_of_their_divergence():
    model = tiny("mlp")
    with torch.no_grad():  # without training all dimensions would be alike
        for name, value in model.named_parameters():
            if name.startswith("encoder"):
                value.mul_(2)
    codec = Codec(model)
    images = ImageSet(Circles(20, 16, 3, hue=True), 3, (16, 16), 20)
    space = merge(list(encode_in_batches(codec, images, 7)), images.labels)
    x = torch.stack(list(images))
    with torch.no_grad():
        q = model.encode(x).latent_dist
    mean, std = q.mean.double().flatten(1), q.std.double().flatten(1)
    kl = (0.5 * (mean.square() + std.square() - 1) - std.log()).mean(0)
    order = [axis.index for axis in space.axes.values() if axis.group == "dimensions"]
    assert order == kl.argsort(descending=True).tolist()
    torch.testing.assert_close(space.kl.flatten().double(), kl, rtol=1e-4, atol=1e-5)
    assert next(iter(space.axes.values())).detail == f"KL {kl.max().item():.2f} nats"
    torch.testing.assert_close(space.means.flatten(1).double(), mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["AutoencoderKL", "AutoencoderKLFlux2", "AsymmetricAutoencoderKL"])
def test_the_divergence_is_that_of_diffusers(name):
    model = tiny(name)
    codec = Codec(model, 16)
    images = ImageSet(Circles(6, 16, 3, hue=True), 3, (16, 16), 6)
    space = merge(list(encode_in_batches(codec, images, 4)))
    with torch.no_grad():
        q = model.encode(torch.stack(list(images))).latent_dist
    torch.testing.assert_close(space.kl.sum(), q.kl().mean(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(space.means, q.mode(), rtol=1e-4, atol=1e-5)
    assert all(axis.detail.startswith("KL ") for axis in space.axes.values() if axis.group == "channels")


@pytest.mark.parametrize("name", ["AutoencoderTiny", "AutoencoderDC", "ema"])
def test_a_certain_posterior_has_no_divergence(name):
    codec = Codec(tiny(name), 16)
    images = ImageSet(Circles(6, 16, 3, hue=True), 3, (16, 16), 6)
    space = merge(list(encode_in_batches(codec, images, 4)))
    assert space.kl is None
    assert space.axes["channel 0"].detail == f"σ {space.means[:, 0].std(correction=0).item():.2g}"


@pytest.mark.parametrize("kind", ["flat", "spatial"])
def test_a_model_names_its_latents(kind):
    model = tiny("mlp" if kind == "flat" else "conv")
    names = [f"{'abcdefgh'[i]} of it" for i in range(model.config.latent_channels)]
    model.register_to_config(_latent_names=names)
    codec = Codec(model, 16)
    images = ImageSet(Circles(9, 16, 3, seed=1, hue=True), codec.channels, codec.image_size, 9)
    space = merge(list(encode_in_batches(codec, images)), images.labels, codec.latent_names)
    key = "dim" if kind == "flat" else "channel"
    named = [(axis.key, axis.name) for axis in space.axes.values() if axis.index < len(names)][: len(names)]
    assert named == [(f"{key} {i}", name) for i, name in enumerate(names)]  # in their order, whatever the KL of each
    assert all(axis.name == axis.key for axis in space.axes.values() if axis.group in ("directions", "labels"))
    z = space.means[3]
    assert torch.equal(space.move(z, names[1], 1.5), space.move(z, f"{key} 1", 1.5))
    coordinates = dict(zip(space.axes, space.coordinates(z).tolist(), strict=True))
    assert coordinates[f"{key} 2"] == pytest.approx(z[2].mean().item(), abs=1e-6)
    assert space.coordinate(z, names[2]) == pytest.approx(z[2].mean().item(), abs=1e-6)


def test_names_that_do_not_fit_the_latents():
    model = tiny("conv")
    model.register_to_config(_latent_names=["x"])
    with pytest.raises(UserError, match="has 1 names: give one for each of the") as raised:
        Codec(model, 16)
    assert one_sentence(raised)
