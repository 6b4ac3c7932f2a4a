"""The nearest-code search against the whole matrix of distances in float64."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vae_plugin.models import VectorQuantizer, nearest_code


class LargestTensor(TorchDispatchMode):
    """Record the size of the largest result of any operation."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


def whole_matrix(vectors, codebook):
    return (vectors.double()[:, None] - codebook.double()).square().sum(2)


def clearly_nearest(distances):
    """Select the vectors whose nearest code is nearer than all others by more than float32 rounding."""
    if distances.shape[1] == 1:
        return torch.ones(len(distances), dtype=torch.bool)
    first, second = distances.topk(2, dim=1, largest=False).values.T
    return second - first > 1e-5 * (1 + second)


@pytest.mark.parametrize("tile", [None, (7, 5), (64, 100), (1000, 1000), (1, 1), (20, 50)])
@pytest.mark.parametrize(("n", "k", "d"), [(100, 100, 3), (65, 33, 8), (1, 1, 1), (40, 200, 64)])
def test_it_has_the_smallest_of_all_distances(n, k, d, tile):
    generator = torch.Generator().manual_seed(n)
    vectors, codebook = torch.randn(n, d, generator=generator), torch.randn(k, d, generator=generator)
    distances = whole_matrix(vectors, codebook)
    clear = clearly_nearest(distances)
    assert clear.float().mean() > 0.98
    nearest = nearest_code(vectors, codebook, tile)
    assert nearest.dtype == torch.long
    assert torch.equal(nearest[clear], distances.argmin(1)[clear])
    torch.testing.assert_close(distances.gather(1, nearest[:, None])[:, 0], distances.amin(1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("tile", [None, (7, 5), (16, 64), (3, 100)])
@pytest.mark.parametrize("offset", [0, 3, 1000])
@pytest.mark.parametrize(("k", "d"), [(7, 1), (149, 2), (149, 3), (2100, 3)])
def test_the_first_of_equally_near_codes_wins(k, d, offset, tile):
    """Integers have many equal distances, and subtracting the exact mean of the codebook would break the ties."""
    generator = torch.Generator().manual_seed(k + d)
    vectors = torch.randint(-3, 4, (200, d), generator=generator).float() + offset
    codebook = torch.randint(-3, 4, (k, d), generator=generator).float() + offset
    distances = whole_matrix(vectors, codebook)
    assert ((distances == distances.amin(1, keepdim=True)).sum(1) > 1).float().mean() > 0.1
    assert torch.equal(nearest_code(vectors, codebook, tile), distances.argmin(1))


@pytest.mark.parametrize("code", [0.0, 300.0])
def test_the_first_of_identical_codes_wins(code):
    assert nearest_code(torch.randn(5, 2), torch.full((4, 2), code)).tolist() == [0] * 5


@pytest.mark.parametrize("tile", [None, (50, 32)])
def test_a_code_that_occurs_twice_is_found_at_its_first_index(tile):
    generator = torch.Generator().manual_seed(0)
    codebook = torch.randn(77, 9, generator=generator)
    twice = torch.cat([codebook, codebook[torch.randperm(77, generator=generator)]])
    vectors = torch.randn(300, 9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(nearest_code(vectors, twice, tile), nearest_code(vectors, codebook))


def test_a_common_offset_does_not_change_the_nearest_code():
    """At 300 standard deviations from the origin, the textbook formula in float32 gets one code in ten wrong."""
    generator = torch.Generator().manual_seed(0)
    vectors, codebook = torch.randn(500, 16, generator=generator), torch.randn(300, 16, generator=generator)
    vectors, codebook = vectors + 300, codebook + 300
    distances = whole_matrix(vectors, codebook)
    right, clear = distances.argmin(1), clearly_nearest(distances)
    textbook = (vectors.square().sum(1, keepdim=True) - 2 * vectors @ codebook.T + codebook.square().sum(1)).argmin(1)
    assert (textbook != right).float().mean() > 0.05
    assert clear.float().mean() > 0.98
    assert torch.equal(nearest_code(vectors, codebook)[clear], right[clear])


def test_the_search_holds_no_more_than_a_tile():
    vectors, codebook = torch.randn(5000, 4), torch.randn(3000, 4)
    with LargestTensor() as largest:
        nearest_code(vectors, codebook)
    assert largest.numel <= 1024 * 1024
    with LargestTensor() as largest:
        nearest_code(vectors, codebook, tile=(100, 100))
    assert largest.numel <= 5000 * 4


STEPS = [{}, {"entropy_weight": 0.1}, {"codebook_update": "gradient"}, {"gradient": "rotation", "distance": "cosine"}]


@pytest.mark.parametrize("options", STEPS)
def test_a_training_step_holds_no_more_than_a_tile(options):
    quantizer = VectorQuantizer(3000, 4, kmeans_init=False, **options)
    z = torch.randn(1, 4, 70, 70, requires_grad=True)
    with LargestTensor() as largest:
        quantized, _, losses = quantizer(z)
        (quantized.sum() + sum(losses.values())).backward()
    assert largest.numel <= 1024 * 1024  # N * K is 14.7 million


@pytest.mark.parametrize("options", STEPS)
def test_a_training_step_keeps_no_distances_for_the_backward_pass(options):
    quantizer = VectorQuantizer(3000, 4, kmeans_init=False, **options)
    z = torch.randn(1, 4, 70, 70, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda x: x):
        quantizer(z)
    assert 0 < sum(kept) < 50 * (z.numel() + quantizer.codebook.numel())  # N * K is 14.7 million
