"""The nearest code, against the whole matrix of distances in float64."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vae_plugin.models import VectorQuantizer, nearest_code


class LargestTensor(TorchDispatchMode):
    """Remembers the most numbers that any operation's result had."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


def whole_matrix(tokens, codebook):
    return (tokens.double()[:, None] - codebook.double()).square().sum(2)


@pytest.mark.parametrize("tile", [None, (7, 5), (64, 100), (1000, 1000), (1, 1)])
@pytest.mark.parametrize(("n", "k", "d"), [(100, 100, 3), (65, 33, 8), (1, 1, 1), (40, 200, 64)])
def test_it_is_the_smallest_of_all_distances(n, k, d, tile):
    generator = torch.Generator().manual_seed(n)
    tokens, codebook = torch.randn(n, d, generator=generator), torch.randn(k, d, generator=generator)
    distances = whole_matrix(tokens, codebook)
    nearest = nearest_code(tokens, codebook, tile)
    assert nearest.dtype == torch.long
    best = distances.gather(1, nearest[:, None])[:, 0]
    # Equal but for distances that differ by less than float32 can tell.
    torch.testing.assert_close(best, distances.amin(1), rtol=1e-6, atol=1e-6)
    assert (nearest == distances.argmin(1)).float().mean() > 0.99


@pytest.mark.parametrize("tile", [None, (7, 5), (16, 64), (3, 100)])
def test_of_equally_near_codes_it_is_the_first(tile):
    """Small whole numbers and a codebook whose mean is zero: every step is exact, and there are many ties."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(-3, 4, (200, 2), generator=generator).float()
    codebook = torch.randint(-3, 4, (150, 2), generator=generator).float()
    codebook = torch.cat([codebook, -codebook])
    distances = whole_matrix(tokens, codebook)
    assert ((distances == distances.amin(1, keepdim=True)).sum(1) > 1).float().mean() > 0.9
    assert torch.equal(nearest_code(tokens, codebook, tile), distances.argmin(1))


@pytest.mark.parametrize("tile", [None, (50, 32)])
def test_a_code_that_stands_twice_is_found_at_its_first_place(tile):
    codebook = torch.randn(77, 9, generator=torch.Generator().manual_seed(0))
    twice = torch.cat([codebook, codebook[torch.randperm(77)]])
    tokens = torch.randn(300, 9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(nearest_code(tokens, twice, tile), nearest_code(tokens, codebook))


def test_an_offset_that_all_share_does_not_blur_the_choice():
    """300 standard deviations from the origin the textbook formula in float32 takes another code for one in ten."""
    generator = torch.Generator().manual_seed(0)
    tokens, codebook = torch.randn(500, 16, generator=generator), torch.randn(300, 16, generator=generator)
    tokens, codebook = tokens + 300, codebook + 300
    right = whole_matrix(tokens, codebook).argmin(1)
    textbook = (tokens.square().sum(1, keepdim=True) - 2 * tokens @ codebook.T + codebook.square().sum(1)).argmin(1)
    assert (textbook != right).float().mean() > 0.05
    assert (nearest_code(tokens, codebook) != right).float().mean() < 0.005


def test_the_search_holds_no_more_than_a_tile():
    tokens, codebook = torch.randn(5000, 4), torch.randn(3000, 4)
    with LargestTensor() as largest:
        nearest_code(tokens, codebook)
    assert largest.numel <= 1024 * 1024
    with LargestTensor() as largest:
        nearest_code(tokens, codebook, tile=(100, 100))
    assert largest.numel <= 5000 * 4


@pytest.mark.parametrize("options", [{}, {"entropy_weight": 0.1}, {"codebook_update": "gradient"}])
def test_a_training_step_holds_no_more_than_a_tile(options):
    quantizer = VectorQuantizer(3000, 4, kmeans_init=False, **options)
    z = torch.randn(1, 4, 70, 70, requires_grad=True)
    with LargestTensor() as largest:
        quantized, _, losses = quantizer(z)
        (quantized.sum() + sum(losses.values())).backward()
    assert largest.numel <= 1024 * 1024  # N * K is 14.7 million
