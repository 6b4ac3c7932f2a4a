"""What several processes measure together is what one measures, and none times out while it waits for another."""

import time

import pytest
import torch
from torch.utils.data import Dataset

from support.processes import together
from support.tiny_lab import tiny
from vae_plugin import metrics
from vae_plugin.autoencoders import adapt
from vae_plugin.datasets import shared_batches
from vae_plugin.datasets.errors import DataError
from vae_plugin.errors import UserError
from vae_plugin.models.distributed import objects_over_processes, wait_for_processes
from vae_plugin.training.statistics import LatentStatistics, fit_noise_scale

pytestmark = pytest.mark.slow  # two processes
GLOBAL_BATCH = 4
TIMEOUT, SLOW = 3.0, 4.0  # seconds
MODELS = ("conv", "ema", "AutoencoderTiny")
UNREADABLE = {  # number of images, and those that cannot be read
    "all": (11, ()),
    "the last process has none in the end": (9, ()),
    "some": (11, (0, 5, 8)),
    "none of one process": (13, (2, 3, 8, 9)),
    "none of a batch": (10, (4, 5, 6, 7)),
}


class Images(Dataset):
    """Noise; in place of an unreadable image its item has the next one, as in an `ImageDataset`."""

    def __init__(self, case):
        self.length, self.unreadable = UNREADABLE[case]
        self.read = []

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.read.append(index)
        names = (f"{index}.png",) if index in self.unreadable else ()
        generator = torch.Generator().manual_seed(index + len(names))
        return {"pixel_values": torch.rand(3, 16, 16, generator=generator) * 2 - 1, "unreadable": names}


def measured(case, processes):
    """The evaluation and the statistics of several models."""
    results, missing = {}, set()
    for name in MODELS:
        adapter = adapt(tiny(name))

        def batches(limit=None):
            return shared_batches(Images(case), GLOBAL_BATCH // processes, missing, limit)

        fit_noise_scale(adapter, batches(), seed=5)
        statistics = LatentStatistics(adapter, batches(limit=8), seed=4).moments()
        evaluation = metrics.evaluate(adapter, batches(), seed=3, shared=True)
        scale = adapter.likelihood.scale.current() if adapter.likelihood is not None else torch.ones(())
        results[name] = (dict(evaluation), evaluation.per_image, evaluation.numbers, *statistics, scale)
    return results, set().union(*objects_over_processes(missing))


class UnreadableOnOne(Images):
    def __getitem__(self, index):
        if index == 3:  # of the second of two processes
            raise DataError("none of the images can be read.")
        return super().__getitem__(index)


def measure_all(rank, folder):
    with pytest.raises(UserError, match="none of the images can be read"):  # on both
        list(shared_batches(UnreadableOnOne("all"), 2))
    torch.save({case: measured(case, 2) for case in UNREADABLE}, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    together(measure_all, str(folder), preload=["vae_plugin.training.statistics"])
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("case", UNREADABLE)
def test_two_processes_measure_what_one_does(two_processes, case):
    expected, missing = measured(case, 1)
    length, unreadable = UNREADABLE[case]
    assert missing == {f"{i}.png" for i in unreadable}
    for name, (evaluation, per_image, numbers, *statistics) in expected.items():
        assert numbers == [i for i in range(length) if i not in unreadable]
        for results, others_missing in (process[case] for process in two_processes):
            assert others_missing == missing
            assert results[name][0] == pytest.approx(evaluation, rel=1e-5, abs=1e-6)
            assert results[name][2] == numbers
            for metric, values in per_image.items():
                assert results[name][1][metric] == pytest.approx(values, rel=1e-4, abs=1e-5), (name, metric)
            for one, other in zip(results[name][3:], statistics, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


class SlowOnMain(Images):
    def __getitem__(self, index):
        if index == 0:
            time.sleep(SLOW)
        return super().__getitem__(index)


def wait_for_a_slow_process(rank, folder):
    images = SlowOnMain("all")
    evaluation = metrics.evaluate(tiny("AutoencoderTiny"), shared_batches(images, 2), shared=True)
    if rank == 1:
        time.sleep(SLOW)  # as another writes
    wait_for_processes()
    objects_over_processes(None)
    torch.save((evaluation["num_images"], images.read), f"{folder}/{rank}.pt")


def test_a_process_that_reads_or_writes_for_longer_than_the_time_out_is_waited_for(tmp_path):
    together(wait_for_a_slow_process, str(tmp_path), seconds=TIMEOUT, preload=["vae_plugin.training.statistics"])
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert [number for number, _ in results] == [11, 11]
    assert sorted(results[0][1] + results[1][1]) == list(range(11))  # each image is read once
