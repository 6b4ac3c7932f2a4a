"""The gradient through a code, against the rotation written as a matrix."""

import pytest
import torch

from vae_plugin.models.quantizers.gradients import GRADIENTS, rotation, straight_through


def pairs(n=50, d=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=generator), 3 * torch.randn(n, d, generator=generator)


def rotation_matrix(token, code):
    """The rotation in the plane of both that turns one direction into the other."""
    e, q = token / token.norm(), code / code.norm()
    cosine = e @ q
    skew = torch.outer(q, e) - torch.outer(e, q)
    return torch.eye(len(e)) + skew + skew @ skew / (1 + cosine)


@pytest.mark.parametrize("name", list(GRADIENTS))
def test_the_value_is_the_code_exactly(name):
    tokens, codes = pairs()
    assert torch.equal(GRADIENTS[name](1e3 * tokens, 1e-3 * codes), 1e-3 * codes)


def test_straight_through_passes_the_gradient_unchanged():
    tokens, codes = pairs()
    tokens.requires_grad_()
    codes.requires_grad_()
    direction = torch.randn_like(tokens)
    (straight_through(tokens, codes) * direction).sum().backward()
    assert torch.equal(tokens.grad, direction)
    assert codes.grad is None


def test_the_rotation_turns_and_stretches_the_gradient():
    tokens, codes = pairs()
    tokens.requires_grad_()
    direction = torch.randn_like(tokens)
    (rotation(tokens, codes) * direction).sum().backward()
    for token, code, back, given in zip(tokens.detach(), codes, tokens.grad, direction, strict=True):
        matrix = rotation_matrix(token, code) * code.norm() / token.norm()
        torch.testing.assert_close(matrix @ token, code)  # it is that rotation
        torch.testing.assert_close(back, matrix.T @ given, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("where", ["token at zero", "token next to zero", "code at zero", "opposite"])
def test_where_there_is_no_rotation_it_is_straight_through(where):
    tokens, codes = pairs(1)
    if where == "token at zero":
        tokens = torch.zeros_like(tokens)
    elif where == "token next to zero":
        tokens = 1e-8 * tokens
    elif where == "code at zero":
        codes = torch.zeros_like(codes)
    else:
        codes = -2 * tokens
    tokens.requires_grad_()
    value = rotation(tokens, codes)
    assert torch.equal(value, codes)
    value.sum().backward()
    assert torch.equal(tokens.grad, torch.ones_like(tokens))
