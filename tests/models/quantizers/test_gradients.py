"""The gradient through a code against the rotation written as a matrix."""

import pytest
import torch

from vae_plugin.models import ResidualVectorQuantizer, SimVectorQuantizer, VectorQuantizer
from vae_plugin.models.quantizers.gradients import GRADIENTS, rotation, straight_through


def pairs(n=50, d=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=generator), 3 * torch.randn(n, d, generator=generator)


def rotation_matrix(vector, code):
    """Rotation within the plane of both vectors that takes one direction to the other."""
    e, q = vector / vector.norm(), code / code.norm()
    cosine = e @ q
    skew = torch.outer(q, e) - torch.outer(e, q)
    return torch.eye(len(e)) + skew + skew @ skew / (1 + cosine)


@pytest.mark.parametrize("name", list(GRADIENTS))
def test_the_value_is_the_code_exactly(name):
    vectors, codes = pairs()
    assert torch.equal(GRADIENTS[name](1e3 * vectors, 1e-3 * codes), 1e-3 * codes)


def test_straight_through_passes_the_gradient_unchanged():
    vectors, codes = pairs()
    vectors.requires_grad_()
    codes.requires_grad_()
    direction = torch.randn_like(vectors)
    (straight_through(vectors, codes) * direction).sum().backward()
    assert torch.equal(vectors.grad, direction)
    assert codes.grad is None


def test_the_rotation_rotates_and_scales_the_gradient():
    vectors, codes = pairs()
    vectors.requires_grad_()
    codes.requires_grad_()
    direction = torch.randn_like(vectors)
    (rotation(vectors, codes) * direction).sum().backward()
    assert codes.grad is None
    for vector, code, back, given in zip(vectors.detach(), codes.detach(), vectors.grad, direction, strict=True):
        matrix = rotation_matrix(vector, code) * code.norm() / vector.norm()
        torch.testing.assert_close(
            matrix @ vector, code, rtol=1e-4, atol=1e-5
        )  # the rotation takes the vector to its code
        torch.testing.assert_close(back, matrix.T @ given, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("where", ["vector at zero", "vector next to zero", "code at zero", "opposite"])
def test_without_a_rotation_the_gradient_is_straight_through(where):
    vectors, codes = pairs(1)
    if where == "vector at zero":
        vectors = torch.zeros_like(vectors)
    elif where == "vector next to zero":
        vectors = 1e-8 * vectors
    elif where == "code at zero":
        codes = torch.zeros_like(codes)
    else:
        codes = -2 * vectors
    vectors.requires_grad_()
    value = rotation(vectors, codes)
    assert torch.equal(value, codes)
    value.sum().backward()
    assert torch.equal(vectors.grad, torch.ones_like(vectors))


@pytest.mark.parametrize("distance", [1e-7, 1e-5, 1e-3])
@pytest.mark.parametrize("scale", [1e-6, 1e-4, 1.0, 1e4])
def test_near_those_vectors_the_gradient_is_finite(scale, distance):
    vectors, codes = pairs()
    codes = -scale * vectors + scale * distance * codes
    vectors = (scale * vectors).requires_grad_()
    value = rotation(vectors, codes)
    assert torch.equal(value, codes)
    value.sum().backward()
    # A rotation keeps lengths: the gradient is at most as long as the incoming one, scaled by the ratio of norms.
    ratio = (codes.norm(dim=1) / vectors.detach().norm(dim=1)).clamp_min(1)
    assert (vectors.grad.norm(dim=1) <= 1.01 * ratio * vectors.shape[1] ** 0.5).all()


@pytest.mark.parametrize(
    "quantizer",
    [
        VectorQuantizer(16, 4, gradient="rotation"),
        VectorQuantizer(16, 4, gradient="rotation", codebook_update="gradient"),
        SimVectorQuantizer(16, 4, gradient="rotation"),
        ResidualVectorQuantizer(16, 4, num_quantizers=3, gradient="rotation"),
    ],
    ids=["ema", "gradient", "simvq", "residual"],
)
def test_quantisers_rotate_the_gradient_of_their_output(quantizer):
    z = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    quantizer.train()(z)
    z.requires_grad_()
    quantized, indices, _ = quantizer.eval()(z)
    assert torch.equal(quantized, quantizer.indices_to_codes(indices))
    direction = torch.randn_like(quantized)
    (quantized * direction).sum().backward()
    as_vectors = [x.detach().movedim(1, -1).reshape(-1, 4) for x in (z, quantized, z.grad, direction)]
    for vector, code, back, given in zip(*as_vectors, strict=True):
        matrix = rotation_matrix(vector, code) * code.norm() / vector.norm()
        torch.testing.assert_close(back, matrix.T @ given, rtol=1e-3, atol=1e-4)
