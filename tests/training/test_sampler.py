"""Which images and which noise a step sees must not depend on the number of processes, nor on an interruption."""

from itertools import chain

import numpy as np
import pytest
import torch

from vae_plugin.training.sampler import BucketSampler, GlobalBatchSampler, _mix, filled, image_noise


def batches(length, batch_size, processes, **options):
    """Global batches, put together from what every process gets."""
    ranks = [
        list(GlobalBatchSampler(length, batch_size, rank=r, num_processes=processes, seed=3, **options))
        for r in range(processes)
    ]
    assert len({len(rank) for rank in ranks}) == 1
    return [list(chain(*parts)) for parts in zip(*ranks, strict=True)]


@pytest.mark.parametrize(("batch_size", "processes"), [(6, 2), (4, 3), (2, 6)])
def test_processes_share_what_one_process_with_the_whole_batch_sees(batch_size, processes):
    assert batches(101, batch_size, processes) == batches(101, 12, 1)


def test_an_epoch_shows_every_image_once_and_the_next_one_another_order():
    first, second = (list(chain(*batches(24, 4, 2, epoch=e))) for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(24))
    assert first != second
    assert first != sorted(first)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_an_epoch_can_be_entered_anywhere_with_another_number_of_processes(processes):
    whole = list(chain(*batches(64, 8, 1)))
    rest = list(chain(*batches(64, 8 // processes, processes, first_image=24)))
    assert rest == whole[24:]


def test_what_does_not_fill_a_batch_is_left_out():
    assert [len(b) for b in batches(10, 4, 1)] == [4, 4]
    assert len(GlobalBatchSampler(10, 4)) == 2
    assert len(GlobalBatchSampler(29, 4, accumulation=3)) == 6  # 2 whole optimiser steps
    assert len(GlobalBatchSampler(10, 4, first_image=8)) == 0


def test_the_noise_of_an_image_depends_on_its_position_alone():
    together = image_noise(7, range(100, 106), (6, 2, 3, 3))
    apart = torch.cat([image_noise(7, range(100, 102), (2, 2, 3, 3)), image_noise(7, range(102, 106), (4, 2, 3, 3))])
    assert torch.equal(together, apart)
    assert not torch.equal(together, image_noise(8, range(100, 106), (6, 2, 3, 3)))


@pytest.mark.parametrize("shape", [(1,), (15,), (16,), (4, 5, 5)])
def test_the_noise_of_an_image_is_drawn_from_a_generator_of_its_own(shape):
    rows = []
    for image in range(7, 12):
        seed = _mix(3, ~image)
        rows.append(torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed)))
    assert torch.equal(image_noise(3, range(7, 12), (5, *shape)), torch.cat(rows))


def test_the_noise_is_standard_normal_and_independent_between_images_and_seeds():
    noise = image_noise(0, range(4000), (4000, 50))
    assert abs(noise.mean()) < 4 / noise.numel() ** 0.5
    assert abs(noise.std() - 1) < 4 / (2 * noise.numel()) ** 0.5
    for other in (
        noise.roll(1, 0),
        image_noise(1, range(4000), (4000, 50)),
        image_noise(1, range(1, 4001), (4000, 50)),
    ):
        assert abs((noise * other).mean()) < 5 / noise.numel() ** 0.5


# (seed, epoch) -> batches of four of 11 images. A continued run depends on these: they never change.
TABLE = {
    (0, 0): [[2, 6, 1, 4], [7, 8, 5, 9]],
    (0, 1): [[4, 6, 8, 3], [5, 1, 9, 2]],
    (7, 2): [[1, 7, 3, 5], [2, 10, 9, 4]],
}


@pytest.mark.parametrize(("seed", "epoch"), TABLE)
def test_the_order_is_the_one_of_the_table(seed, epoch):
    expected = TABLE[seed, epoch]
    assert list(GlobalBatchSampler(11, 4, seed=seed, epoch=epoch)) == expected
    for rank, part in ((0, slice(0, 2)), (1, slice(2, 4))):
        sampler = GlobalBatchSampler(11, 2, rank=rank, num_processes=2, seed=seed, epoch=epoch)
        assert list(sampler) == [batch[part] for batch in expected]
    assert list(GlobalBatchSampler(11, 4, seed=seed, epoch=epoch, first_image=4)) == expected[1:]


def test_without_a_seed_and_an_epoch_it_is_the_first_of_the_table():
    assert list(GlobalBatchSampler(11, 4)) == TABLE[0, 0]
    assert list(GlobalBatchSampler(11, 4, accumulation=3)) == []


def test_the_noise_is_the_one_of_the_table():
    expected = torch.tensor([[-0.73308921, -0.02678464], [-0.52493632, -0.63523036], [-0.53818417, 1.62663400]])
    torch.testing.assert_close(image_noise(0, [0, 1, 5], (3, 2)), expected)
    torch.testing.assert_close(image_noise(3, [5], (1, 2)), torch.tensor([[-0.44510442, 0.87505877]]))


BUCKETS = np.random.default_rng(0).choice(3, 101, p=(0.6, 0.3, 0.1))


def bucket_batches(batch_size, processes, **options):
    """Global batches, put together from what every process gets."""
    samplers = [
        BucketSampler(BUCKETS, batch_size, rank=r, num_processes=processes, seed=3, **options) for r in range(processes)
    ]
    ranks = [list(sampler) for sampler in samplers]
    assert {len(rank) for rank in ranks} == {len(sampler) for sampler in samplers}
    return [list(chain(*parts)) for parts in zip(*ranks, strict=True)]


def one_by_one(global_batch, order):
    """The batches of one size in the order in which they are filled."""
    waiting, result = {}, []
    for image in order:
        batch = waiting.setdefault(BUCKETS[image], [])
        batch.append(image)
        if len(batch) == global_batch:
            result.append(waiting.pop(BUCKETS[image]))
    return result


@pytest.mark.parametrize(("batch_size", "processes"), [(12, 1), (6, 2), (4, 3), (2, 6)])
def test_batches_of_one_size_are_those_of_one_process(batch_size, processes):
    for epoch in (0, 1):
        got = bucket_batches(batch_size, processes, epoch=epoch)
        order = chain(*GlobalBatchSampler(101, 1, seed=3, epoch=epoch))
        assert got == one_by_one(12, order)
        assert all(len(set(BUCKETS[batch])) == 1 for batch in got)
        assert len(set(chain(*got))) == sum(map(len, got)) == filled(BUCKETS, 12)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_an_epoch_of_several_sizes_can_be_entered_at_any_batch(processes):
    whole = bucket_batches(4, 1)
    for seen in range(len(whole)):
        assert bucket_batches(4 // processes, processes, first_image=4 * seen) == whole[seen:]
    assert len(BucketSampler(BUCKETS, 4, accumulation=5)) == len(whole) // 5 * 5


def test_a_bucket_that_fills_no_batch_is_left_out():
    assert list(BucketSampler([0, 1, 0, 2], 2)) in ([[0, 2]], [[2, 0]])
    assert list(BucketSampler([0, 1], 2)) == []
