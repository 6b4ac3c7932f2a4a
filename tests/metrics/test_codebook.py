"""Usage and perplexity against their definitions."""

import pytest
import torch

from vae_plugin.metrics.codebook import CodebookUsage
from vae_plugin.models.quantizers.entropy import perplexity


@pytest.mark.parametrize("used", [1, 3, 8])
def test_the_perplexity_of_equal_use_is_the_number_of_codes_used(used):
    counts = torch.zeros(8, dtype=torch.long)
    counts[:used] = 7
    assert perplexity(counts).item() == pytest.approx(used)


def test_the_perplexity_is_that_of_the_entropy():
    counts = torch.tensor([1, 2, 3, 0, 10])
    expected = torch.distributions.Categorical(counts / counts.sum()).entropy().exp().item()
    assert perplexity(counts).item() == pytest.approx(expected, rel=1e-6)


def test_usage_is_over_all_batches():
    """Each batch uses few codes, but together they use all of them."""
    usage = CodebookUsage(1000)
    for i in range(100):
        usage.update(torch.arange(10).reshape(1, 2, 5) + 10 * i)
    assert usage.result() == pytest.approx(
        {"codebook_usage": 1.0, "codebook_perplexity": 1000.0, "dead_codes": 0, "codebook_positions": 1000}
    )


def test_dead_codes_are_those_that_never_occur():
    usage = CodebookUsage(5)
    usage.update(torch.tensor([[4, 4], [0, 4]]))
    result = usage.result()
    assert (result["dead_codes"], result["codebook_usage"]) == (3, 0.4)


def test_a_large_set_is_counted_exactly():
    """In float32, 2^24 + 1 is 2^24."""
    usage = CodebookUsage(2)
    usage.counts[0] = 2**24
    usage.update(torch.zeros(1, dtype=torch.long))
    assert usage.result()["codebook_positions"] == 2**24 + 1
