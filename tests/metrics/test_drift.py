"""What several round trips do, against models whose n-th power is known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vae_plugin.errors import NotFiniteError
from vae_plugin.metrics import Drift, Seen, drift


def images(count=3, channels=3, side=8, seed=0):
    levels = np.random.default_rng(seed).integers(60, 200, (count, channels, side, side))
    return torch.from_numpy(levels).float() / 127.5 - 1


def levels(x):
    return np.rint((np.clip(x.numpy().astype(np.float64), -1, 1) + 1) * 127.5)


def decibels(a, b):
    return np.mean([10 * math.log10(255**2 / np.mean((one - other) ** 2)) for one, other in zip(a, b, strict=True)])


def measured(reconstruct, *batches, trips=(1, 2, 5)):
    accumulator = Drift(trips)
    for batch in batches:
        accumulator.add(batch, reconstruct)
    return accumulator.result()


def test_a_perfect_model_does_not_drift():
    result = measured(lambda x: x, images())
    assert [result[f"drift_psnr_{n}"] for n in (1, 2, 5)] == [100, 100, 100]
    assert [result[f"drift_bias_{n}"] for n in (1, 2, 5)] == [[0, 0, 0]] * 3
    assert result["drift_images"] == 3


def test_a_constant_adds_up():
    """2 and -1 levels a trip, on two of three channels: the error after n trips is n (2, 0, -1)."""
    step = torch.tensor([2.0, 0.0, -1.0]).view(3, 1, 1) / 127.5
    result = measured(lambda x: x + step, images())
    for n in (1, 2, 5):
        assert result[f"drift_bias_{n}"] == pytest.approx([2 * n, 0, -n], abs=1e-4)
        assert result[f"drift_psnr_{n}"] == pytest.approx(10 * math.log10(255**2 / (n * n * 5 / 3)), abs=1e-4)


def test_a_contraction_is_its_power_up_to_the_rounding():
    x = images(2)
    result = measured(lambda x: 0.9 * x, x)
    for n in (1, 2, 5):
        power = levels(0.9**n * x)
        assert result[f"drift_psnr_{n}"] == pytest.approx(decibels(levels(x), power), abs=0.3)
        assert result[f"drift_bias_{n}"] == pytest.approx((power - levels(x)).mean((0, 2, 3)).tolist(), abs=0.5)


def test_the_image_is_clipped_and_rounded_between_two_trips():
    """0.4 levels a trip are lost in the rounding, and what is beyond the range is cut off before it comes back."""
    assert measured(lambda x: x + 0.4 / 127.5, images())["drift_psnr_5"] == 100
    x = images()
    result = measured(lambda x: 2.2 * x, x, trips=(2,))
    twice = levels(torch.from_numpy(levels(2.2 * x) / 127.5 - 1) * 2.2)
    assert result["drift_psnr_2"] == pytest.approx(decibels(levels(x), twice), abs=1e-2)


def test_a_stream_has_the_means_of_its_images_whatever_the_batches_and_sizes():
    big, small = images(3, side=16), images(2, side=8, seed=1)

    def blur(x):
        return torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    whole, apart = measured(blur, big, small), [measured(blur, one[None]) for one in (*big, *small)]
    assert whole == {
        name: 5 if name == "drift_images" else pytest.approx(np.mean([each[name] for each in apart], 0).tolist())
        for name in whole
    }


def test_processes_together_have_what_one_has(monkeypatch):
    parts = [Drift(), Drift(), Drift()]
    parts[0].add(images(2), lambda x: 0.8 * x)
    parts[2].add(images(3, seed=1), lambda x: 0.8 * x)  # the second has no share
    seen = [(one._count, one._psnr, one._bias) for one in parts]
    monkeypatch.setattr(drift, "objects_over_processes", lambda own: seen)
    expected = measured(lambda x: 0.8 * x, images(2), images(3, seed=1))
    parts[1].all_reduce()
    assert parts[1].result() == {name: pytest.approx(value) for name, value in expected.items()}


def test_only_some_images_of_a_batch_go_round_and_the_first_trip_is_not_made_twice():
    x = images(4)
    adapter = SimpleNamespace(reconstruct=lambda x: 0.8 * x)
    accumulator = Drift(count=10)
    accumulator.update(Seen(adapter, x, 0.8 * x, None, (3, 10, 7, 12)))
    assert accumulator.result() == measured(lambda x: 0.8 * x, x[[0, 2]])


def test_no_images_and_what_cannot_be_measured():
    nothing = Drift()
    nothing.all_reduce()
    assert nothing.result() == {}
    with pytest.raises(ValueError, match="at least 1"):
        Drift((0, 1))
    calls = iter([0.0, math.nan])
    with pytest.raises(NotFiniteError, match=r"after 2 round trip"):
        measured(lambda x: x + next(calls), images())
