from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from vae_plugin.metrics import RunningMoments, active_units


def latents(*shape: int, seed: int = 0, mean: float = 0.0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.5, 2, (1, shape[1], *[1] * (len(shape) - 2)))
    return torch.from_numpy(mean + scale * rng.standard_normal(shape))


def reference(batches: list[torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    values = np.concatenate([np.moveaxis(z.double().numpy(), 1, -1).reshape(-1, z.shape[1]) for z in batches])
    return values.mean(0), values.std(0)


def moments_of(batches: list[torch.Tensor]) -> RunningMoments:
    moments = RunningMoments()
    for z in batches:
        moments.update(z)
    return moments


@pytest.mark.parametrize("rest", [(4,), (4, 3, 5)])
def test_moments_of_a_stream(rest):
    batches = [latents(n, *rest, seed=n, mean=n) for n in (7, 1, 12)]
    moments = moments_of(batches)
    mean, std = reference(batches)
    assert moments.count == 20 * (15 if len(rest) == 3 else 1)
    assert moments.mean.dtype == moments.std.dtype == torch.float64
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(moments.std, std, rtol=1e-12)


def test_large_mean_small_deviation():
    # The squares are 1e16: float64 keeps 1 of them, and a difference of two would lose a deviation of 1e-2.
    batches = [1e8 + 1e-2 * latents(50, 3, seed=seed) for seed in range(20)]
    moments = moments_of(batches)
    mean, std = reference(batches)
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-14)
    np.testing.assert_allclose(moments.std, std, rtol=1e-6)


def test_half_precision_latents_that_carry_a_gradient():
    batches = [latents(500, 2, seed=seed, mean=30).half().requires_grad_() for seed in range(4)]
    moments = moments_of(batches)
    mean, std = reference([z.detach() for z in batches])
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(moments.std, std, rtol=1e-12)
    assert not moments.mean.requires_grad


def test_moments_are_not_shared_with_the_caller():
    moments = moments_of([torch.ones(2, 3)])
    moments.mean.zero_()
    assert moments.mean.tolist() == [1, 1, 1]


def test_moments_without_latents():
    moments = RunningMoments()
    moments.update(torch.zeros(0, 3))
    assert moments.count == 0
    with pytest.raises(ValueError, match="no latents"):
        _ = moments.mean
    with pytest.raises(ValueError, match="no latents"):
        _ = moments.std


def test_moments_refuse_other_shapes():
    moments = moments_of([torch.zeros(2, 3)])
    for z in (torch.zeros(2, 4), torch.zeros(3), torch.zeros(2, 3, 4)):
        with pytest.raises(ValueError, match=r"expected \(B, 3\) or \(B, 3, H, W\)"):
            moments.update(z)


def test_all_reduce_in_one_process_changes_nothing():
    moments = moments_of([latents(5, 3)])
    mean, std = moments.mean, moments.std
    assert moments.all_reduce() is moments
    assert moments.count == 5
    assert torch.equal(moments.mean, mean)
    assert torch.equal(moments.std, std)


PROCESSES = 2
BATCH_SIZES = {  # of each process
    "uneven": [(6,), (4, 9)],
    "one process": [(), (8,)],
    "none": [(), ()],
}


def batches_of(case: str, rank: int) -> list[torch.Tensor]:
    return [latents(n, 3, 2, 2, seed=n, mean=1e6 * (1 + rank)) for n in BATCH_SIZES[case][rank]]


def reduce_in_process(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=PROCESSES)
    results = {case: moments_of(batches_of(case, rank)).all_reduce() for case in BATCH_SIZES}
    assert results.pop("none").count == 0
    torch.save({case: (m.count, m.mean, m.std) for case, m in results.items()}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_several_processes_equal_one(tmp_path: Path):
    mp.spawn(reduce_in_process, args=(str(tmp_path),), nprocs=PROCESSES)
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(PROCESSES)]
    for case in ("uneven", "one process"):
        batches = [z for rank in range(PROCESSES) for z in batches_of(case, rank)]
        one = moments_of(batches)
        expected_mean, expected_std = reference(batches)
        for count, mean, std in (result[case] for result in results):
            assert count == one.count
            torch.testing.assert_close(mean, one.mean, rtol=1e-14, atol=0)
            torch.testing.assert_close(std, one.std, rtol=1e-9, atol=0)
            np.testing.assert_allclose(mean, expected_mean, rtol=1e-14)
            np.testing.assert_allclose(std, expected_std, rtol=1e-9)
            assert torch.equal(mean, results[0][case][1])
            assert torch.equal(std, results[0][case][2])


def test_active_units_by_hand():
    # Two images, units at -d and d: variance d^2.
    d = torch.tensor([0.0, 0.05, 0.0999, 0.1001, 3.0])
    means = torch.stack([-d, d]) + torch.tensor([0.0, 5.0, -5.0, 100.0, 0.0])
    assert active_units(means) == 2
    assert active_units(means, threshold=0.001) == 4
    assert active_units(means, threshold=10) == 0


def test_active_units_of_spatial_latents_are_channels_at_positions():
    means = torch.zeros(10, 2, 3, 4)
    means[::2, 1, 2, :] = 1  # variance 1/4
    means[:, 0] = 1000  # constant
    assert active_units(means) == 4
    assert active_units(means.half()) == 4
    assert isinstance(active_units(means), int)


def test_active_units_do_not_depend_on_a_large_mean():
    means = latents(400, 6) * 0.2
    assert active_units(means) == active_units(means + 1e6) == int((means.numpy().var(0) > 0.01).sum())
    assert 0 < active_units(means) <= 6


def test_active_units_need_two_images():
    for means in (torch.zeros(1, 4), torch.zeros(4), torch.zeros(0, 4)):
        with pytest.raises(ValueError, match="at least 2 images"):
            active_units(means)
