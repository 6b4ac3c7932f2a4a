"""Two processes keep the same codebook as a single process with the whole batch."""

import pytest
import torch

from support.processes import together
from vae_plugin.models import LookupFreeQuantizer, ResidualVectorQuantizer, VectorQuantizer

pytestmark = pytest.mark.slow  # two processes
STEPS, PER_PROCESS = 8, 3
QUANTIZERS = {
    "ema": lambda: VectorQuantizer(16, 3, decay=0.8, dead_code_threshold=0.4),
    "k-means in portions": lambda: VectorQuantizer(150, 3, decay=0.8, dead_code_threshold=0.4),
    "cosine": lambda: VectorQuantizer(16, 3, decay=0.8, dead_code_threshold=0.8, distance="cosine"),
    "gradient": lambda: VectorQuantizer(16, 3, codebook_update="gradient", entropy_weight=0.3, dead_code_threshold=0.4),
    "residual": lambda: ResidualVectorQuantizer(8, 3, num_quantizers=2, decay=0.8, dead_code_threshold=0.4),
    "rotation, fewer numbers": lambda: VectorQuantizer(16, 3, codebook_dim=2, gradient="rotation", decay=0.8),
    "lookup free": lambda: LookupFreeQuantizer(8, 3),
}


def batch(step, processes):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(processes * PER_PROCESS, 3, 4, 4, generator=generator)


def train(name, rank, processes):
    """State after some steps, with the losses and latent gradients of the last step."""
    torch.manual_seed(0)
    quantizer = QUANTIZERS[name]()
    for step in range(STEPS):
        z = batch(step, 2)
        z = z[rank * PER_PROCESS : (rank + 1) * PER_PROCESS] if processes == 2 else z
        z.requires_grad_()
        _, _, losses = quantizer(z)
        sum(losses.values(), z.sum() * 0).backward()
    gradients = z.grad / processes  # as in the mean of the losses over processes
    return quantizer.state_dict(), {name: loss.detach() for name, loss in losses.items()}, gradients


def work(rank, folder):
    results = {name: train(name, rank, 2) for name in QUANTIZERS}
    torch.save(results, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    together(work, str(folder), preload=["vae_plugin.models"])
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", list(QUANTIZERS))
def test_the_codebooks_of_both_are_equal_to_the_bit(two_processes, name):
    first, second = (results[name][0] for results in two_processes)
    assert first.keys() == second.keys()
    for key in first:
        assert torch.equal(first[key], second[key]), key


@pytest.mark.parametrize("name", list(QUANTIZERS))
def test_they_are_those_of_one_process_with_the_whole_batch(two_processes, name):
    state, losses, gradients = train(name, 0, 1)
    for key, value in state.items():
        torch.testing.assert_close(two_processes[0][name][0][key], value, rtol=1e-4, atol=1e-5, msg=key)
    for key, value in losses.items():
        mean = sum(results[name][1][key] for results in two_processes) / 2
        torch.testing.assert_close(mean, value, rtol=1e-4, atol=1e-6, msg=key)
    both = torch.cat([results[name][2] for results in two_processes])
    torch.testing.assert_close(both, gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", list(QUANTIZERS)[:5])
def test_the_runs_compared_did_place_and_revive_codes(name, monkeypatch):
    placed, revived = [], []
    place, revive = VectorQuantizer._place_codes, VectorQuantizer._set_codes
    monkeypatch.setattr(VectorQuantizer, "_place_codes", lambda self, *args: placed.append(1) or place(self, *args))
    monkeypatch.setattr(VectorQuantizer, "_set_codes", lambda self, *args: revived.append(1) or revive(self, *args))
    train(name, 0, 1)
    assert len(placed) == {"k-means in portions": 4, "residual": 2}.get(name, 1)
    assert len(revived) > len(placed)
