"""The range of latents, against NumPy's quantiles of everything at once."""

import numpy as np
import pytest
import torch

from vae_plugin.errors import NotFiniteError
from vae_plugin.metrics import LatentRange, latent_range


def stream(*counts, channels=3, scale=(1.0, 30.0, 1e-3), seed=0):
    rng = np.random.default_rng(seed)
    shape = (1, channels, 1, 1)
    mean, scales = np.array([0, -50, 2e-3]).reshape(shape), np.array(scale).reshape(shape)
    return [torch.from_numpy(mean + scales * rng.standard_normal((n, channels, 16, 16))) for n in counts]


def seen(batches):
    accumulator = LatentRange()
    for batch in batches:
        accumulator.add(batch)
    return accumulator


def assert_range(result, batches):
    values = np.concatenate([np.moveaxis(z.double().numpy(), 1, 0).reshape(z.shape[1], -1) for z in batches], 1)
    for name, expected in {"latent_min_per_channel": values.min(1), "latent_max_per_channel": values.max(1)}.items():
        assert result[name] == expected.tolist()
    for name, share in {"latent_q0.001_per_channel": 0.001, "latent_q0.999_per_channel": 0.999}.items():
        error = np.abs(result[name] - np.quantile(values, share, axis=1, method="lower"))
        assert (error <= np.abs(values).max(1) / 4096).all()


def test_the_range_of_a_stream():
    batches = stream(3, 1, 30)
    assert_range(seen(batches).result(), batches)


def test_a_range_that_grows_is_that_of_everything_at_once():
    batches = [scale * batch for scale, batch in zip((1e-6, 1, 1e5), stream(5, 5, 5), strict=True)]
    forth, back = seen(batches).result(), seen(batches[::-1]).result()
    assert_range(forth, batches)
    at_once = seen([torch.cat(batches)]).result()
    assert forth == back == at_once


def test_a_channel_that_begins_with_nothing_is_as_exact_as_another():
    batches = [torch.zeros(9, 3, 16, 16), *stream(5)]
    assert_range(seen(batches).result(), batches)


def test_flat_latents_and_values_at_the_ends_of_a_histogram():
    z = torch.tensor([[1.0, 0.0, -2.0], [2.0, 0.0, 4.0]])
    result = seen([z]).result()
    assert (result["latent_min_per_channel"], result["latent_max_per_channel"]) == ([1, 0, -2], [2, 0, 4])
    assert result["latent_q0.001_per_channel"][1] == result["latent_q0.999_per_channel"][1] == 0
    assert all(
        low >= least
        for low, least in zip(result["latent_q0.001_per_channel"], result["latent_min_per_channel"], strict=True)
    )


def test_processes_together_have_what_one_has(monkeypatch):
    batches = stream(4, 2)
    parts = [seen(batches[:1]), LatentRange(), seen([100 * batches[1]])]
    states = [(one._low, one._high, one._exponents, one._counts.to_sparse()) for one in parts]
    monkeypatch.setattr(latent_range, "objects_over_processes", lambda own: states)
    parts[1].all_reduce()
    assert parts[1].result() == seen([batches[0], 100 * batches[1]]).result()


def test_nothing_and_what_is_not_finite():
    assert LatentRange().result() == {}
    accumulator = seen([torch.zeros(0, 4, 2, 2), torch.ones(1, 4, 2, 2)])
    assert accumulator.result()["latent_max_per_channel"] == [1, 1, 1, 1]
    with pytest.raises(NotFiniteError, match="a latent"):
        accumulator.add(torch.full((1, 4, 2, 2), float("inf")))
