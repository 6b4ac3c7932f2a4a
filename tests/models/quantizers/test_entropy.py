"""The entropy losses against the explicit sum over all probabilities."""

import itertools

import pytest
import torch

from vae_plugin.models import LookupFreeQuantizer
from vae_plugin.models.quantizers import entropy
from vae_plugin.models.quantizers.entropy import entropy_loss


def written_out(vectors, codebook, temperature):
    p = torch.softmax(-torch.cdist(vectors, codebook).square() / temperature, 1)
    mean = p.mean(0)
    return -(p * p.log()).sum(1).mean() + (mean * mean.log()).sum()


@pytest.mark.parametrize("tile", [(1024, 1024), (10, 7)])
@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_value_and_gradient_are_those_of_all_probabilities(temperature, tile, monkeypatch):
    monkeypatch.setattr(entropy, "CPU_TILE", tile)  # one block of all vectors, or blocks of two
    vectors = torch.randn(30, 3, dtype=torch.float64, requires_grad=True)
    codebook = torch.randn(35, 3, dtype=torch.float64, requires_grad=True)
    results = []
    for loss in (entropy_loss(vectors, codebook, temperature), written_out(vectors, codebook, temperature)):
        results.append((loss, *torch.autograd.grad(loss, (vectors, codebook))))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)


def test_it_is_lowest_where_all_codes_are_used_evenly_and_with_certainty():
    codebook = 100 * torch.eye(8)
    torch.testing.assert_close(entropy_loss(codebook.repeat(3, 1), codebook, 1.0), -torch.tensor(8.0).log())
    torch.testing.assert_close(entropy_loss(codebook[:1].repeat(3, 1), codebook, 1.0), torch.tensor(0.0))


def test_descending_it_spreads_the_vectors_over_the_codes():
    torch.manual_seed(0)
    codebook = torch.randn(16, 2)
    vectors = (0.1 * torch.randn(200, 2)).requires_grad_()
    optimizer = torch.optim.Adam([vectors], 0.05)

    def used():
        return torch.cdist(vectors, codebook).argmin(1).unique().numel()

    before = used()
    for _ in range(100):
        optimizer.zero_grad()
        entropy_loss(vectors, codebook, 0.3).backward()
        optimizer.step()
    assert used() > before + 5


def test_the_bits_of_a_lookup_free_code_are_those_of_all_codes():
    """Bit by bit, the entropy of one assignment is exact over all 2^D codes; that of the mean assignment is a bound."""
    torch.manual_seed(0)
    bits, weight = 4, 0.3
    quantizer = LookupFreeQuantizer(2**bits, bits, entropy_weight=weight, entropy_temperature=2.0)
    z = 0.5 * torch.randn(2, bits, 5, 5)
    vectors = z.movedim(1, -1).reshape(-1, bits).requires_grad_()
    codebook = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=bits)))
    p = torch.softmax(-torch.cdist(vectors, codebook).square() / 2.0, 1)
    vector_entropy = -(p * p.log()).sum(1).mean()
    mean = p.mean(0)
    entropy_of_mean = -(mean * mean.log()).sum()
    marginals = torch.stack([mean[codebook[:, i] > 0].sum() for i in range(bits)])
    entropy_of_bits = torch.distributions.Bernoulli(marginals).entropy().sum()
    loss = quantizer(vectors.T.reshape(1, bits, 1, -1))[2]["entropy"]
    expected = weight * (vector_entropy - entropy_of_bits)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, vectors), torch.autograd.grad(expected, vectors))
    assert entropy_of_bits > entropy_of_mean


def test_certain_bits_have_no_entropy_and_a_finite_gradient():
    quantizer = LookupFreeQuantizer(16, 4, entropy_weight=1.0)
    z = torch.full((1, 4, 3, 3), 1e4).requires_grad_()
    loss = quantizer(z)[2]["entropy"]
    torch.testing.assert_close(loss, torch.tensor(0.0), rtol=0, atol=1e-4)
    loss.backward()
    assert torch.isfinite(z.grad).all()
