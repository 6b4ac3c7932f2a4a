from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vae_plugin.latents import analogy, attribute_vector, interpolate, lerp, slerp, traverse

SHAPES = [(5,), (3, 5), (4, 6, 2), (3, 4, 6, 2)]


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def brute_force_slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """One pair of vectors: rotate a's direction towards b's in their plane, by t of the angle (Gram-Schmidt)."""
    norm_a, norm_b = np.linalg.norm(a), np.linalg.norm(b)
    u, v = a / norm_a, b / norm_b
    angle = math.acos(np.clip(u @ v, -1, 1))
    w = v - (u @ v) * u
    w /= np.linalg.norm(w)
    return (math.cos(t * angle) * u + math.sin(t * angle) * w) * ((1 - t) * norm_a + t * norm_b)


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 0.9, 1.0, 1.3, -0.2])
def test_slerp_of_orthonormal_vectors_is_cos_and_sin(t):
    a, b = torch.eye(4, dtype=torch.float64)[:2]
    expected = math.cos(t * math.pi / 2) * a + math.sin(t * math.pi / 2) * b
    # Outside [0, 1] the norm is extrapolated too, and it is 1 throughout here.
    torch.testing.assert_close(slerp(a, b, t), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.8])
def test_slerp_against_rotation_in_the_plane(t):
    a, b = gaussian(7, 5), gaussian(7, 5, seed=1) * 3
    result = slerp(a, b, t)
    for i in range(7):
        np.testing.assert_allclose(result[i], brute_force_slerp(a[i].numpy(), b[i].numpy(), t), rtol=1e-10)
        torch.testing.assert_close(slerp(a[i], b[i], t), result[i])


def test_slerp_per_location_and_per_latent():
    a, b = gaussian(2, 4, 3, 5), gaussian(2, 4, 3, 5, seed=1)
    per_location = slerp(a, b, 0.3)
    whole = slerp(a, b, 0.3, per_location=False)
    for i in range(2):
        expected = brute_force_slerp(a[i].flatten().numpy(), b[i].flatten().numpy(), 0.3)
        np.testing.assert_allclose(whole[i].flatten(), expected, rtol=1e-10)
        for y in range(3):
            for x in range(5):
                expected = brute_force_slerp(a[i, :, y, x].numpy(), b[i, :, y, x].numpy(), 0.3)
                np.testing.assert_allclose(per_location[i, :, y, x], expected, rtol=1e-10)
    torch.testing.assert_close(slerp(a[0], b[0], 0.3), per_location[0])
    torch.testing.assert_close(slerp(a[0], b[0], 0.3, per_location=False), whole[0])


def test_lerp():
    assert lerp(torch.tensor([1.0, 2.0]), torch.tensor([3.0, -2.0]), 0.25).tolist() == [1.5, 1.0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("function", [lerp, slerp])
def test_ends_are_exact(function, dtype, shape):
    a, b = gaussian(*shape, dtype=dtype), gaussian(*shape, seed=1, dtype=dtype) * 7
    for t, end in ((0, a), (1.0, b), (torch.tensor(1), b)):
        result = function(a, b, t)
        assert result.dtype == dtype
        assert torch.equal(result, end)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", ["slerp", "lerp"])
def test_interpolate(method, shape):
    a, b = gaussian(*shape), gaussian(*shape, seed=1)
    path = interpolate(a, b, 7, method)
    assert path.shape == (7, *shape)
    assert torch.equal(path[0], a)
    assert torch.equal(path[-1], b)
    for i, step in enumerate(path):
        torch.testing.assert_close(step, (slerp if method == "slerp" else lerp)(a, b, i / 6))
    whole = interpolate(a, b, 3, method, per_location=False)
    expected = slerp(a, b, 0.5, per_location=False) if method == "slerp" else lerp(a, b, 0.5)
    torch.testing.assert_close(whole[1], expected)


def test_interpolate_ends_are_exact_for_any_number_of_steps():
    a, b = gaussian(3, 5, dtype=torch.float32), gaussian(3, 5, seed=1, dtype=torch.float32)
    for steps in range(2, 60):
        path = interpolate(a, b, steps)
        assert torch.equal(path[0], a)
        assert torch.equal(path[-1], b)


@pytest.mark.parametrize("function", [lerp, slerp])
@pytest.mark.parametrize("shape", [(3, 5), (3, 4, 6, 2)])
def test_one_t_per_sample(function, shape):
    a, b, t = gaussian(*shape), gaussian(*shape, seed=1), torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    expected = torch.stack([function(a[i], b[i], t[i].item()) for i in range(3)])
    torch.testing.assert_close(function(a, b, t), expected)
    torch.testing.assert_close(function(a, b, t.view(3, *[1] * (len(shape) - 1))), expected)


def test_norms_of_gaussian_samples():
    dimensions = 4096
    a, b = gaussian(20, dimensions), gaussian(20, dimensions, seed=1)
    on_sphere = slerp(a, b, 0.5).norm(dim=1) / math.sqrt(dimensions)
    straight = lerp(a, b, 0.5).norm(dim=1) / math.sqrt(dimensions)
    # The norm of a sample is sqrt(D) with a relative deviation of 1 / sqrt(2 D) = 0.011.
    assert (on_sphere - 1).abs().max() < 0.05
    assert (straight - math.sqrt(0.5)).abs().max() < 0.05


def test_norm_is_linear_in_t():
    a, b = gaussian(3, 5), 4 * gaussian(3, 5, seed=1)
    for t in (0.2, 0.7):
        torch.testing.assert_close(slerp(a, b, t).norm(dim=1), (1 - t) * a.norm(dim=1) + t * b.norm(dim=1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", ["equal", "parallel", "opposite", "zero a", "zero b", "zeros", "one channel"])
def test_degenerate_vectors_are_lerp_with_finite_gradients(case, dtype):
    v = gaussian(4, 6, dtype=dtype)
    if case == "one channel":
        v = v.view(4, 1, 3, 2)
    other = torch.where(v > 0, 2.0, -0.5).to(dtype) * v
    zero = torch.zeros_like(v)
    a, b = {
        "equal": (v, v.clone()),
        "parallel": (v, 3 * v),
        "opposite": (v, -2 * v),
        "zero a": (zero, v),
        "zero b": (v, zero),
        "zeros": (zero, zero.clone()),
        "one channel": (v, other),
    }[case]
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    t = torch.tensor(0.3, dtype=dtype, requires_grad=True)
    result = slerp(a, b, t)
    torch.testing.assert_close(result, lerp(a, b, t), rtol=1e-6, atol=1e-6)
    gradients = torch.autograd.grad(result.square().sum(), (a, b, t))
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e18])
def test_finite_at_extreme_norms(scale):
    a = (gaussian(4, 6, dtype=torch.float32) * scale).requires_grad_()
    b = gaussian(4, 6, seed=1, dtype=torch.float32).requires_grad_()
    result = slerp(a, b, 0.5)
    gradients = torch.autograd.grad(result.sum(), (a, b))
    assert result.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("kind", ["angle to opposite", "norm to zero", "angle to parallel"])
def test_slerp_is_continuous_where_it_becomes_lerp(kind):
    """Along a path of vectors through the degenerate ones the result moves by little for a little step."""
    a = torch.tensor([1.0, 0.0], dtype=torch.float64)
    s = torch.logspace(-6, 0, 4001, dtype=torch.float64)
    if kind == "norm to zero":
        b = s[:, None] * torch.tensor([0.0, 1.0], dtype=torch.float64)
    else:
        angle = math.pi - s if kind == "angle to opposite" else s
        b = torch.stack([angle.cos(), angle.sin()], 1)
    results = slerp(a.expand_as(b), b, 0.4)
    # A jump would be of the size of |slerp - lerp|, about 0.5; neighbours on the path are 0.35 % apart.
    assert results.diff(dim=0).norm(dim=1).max() < 0.01
    torch.testing.assert_close(results[0], lerp(a, b[0], 0.4), rtol=0, atol=2e-6)
    expected = brute_force_slerp(a.numpy(), b[-1].numpy(), 0.4)
    np.testing.assert_allclose(results[-1], expected, rtol=1e-10)


def test_gradient_against_finite_differences():
    a, b = gaussian(2, 3, 2, 2).requires_grad_(), gaussian(2, 3, 2, 2, seed=1).requires_grad_()
    t = torch.tensor([0.3, 0.6], dtype=torch.float64, requires_grad=True)
    for per_location in (True, False):
        assert torch.autograd.gradcheck(lambda *x, p=per_location: slerp(*x, per_location=p), (a, b, t))
    assert torch.autograd.gradcheck(lerp, (a, b, t))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    # 300 * 300 overflows float16, whose largest number is 65504.
    a, b = 300 * gaussian(3, 4, 5, 5, dtype=dtype), 300 * gaussian(3, 4, 5, 5, seed=1, dtype=dtype)
    for function in (lerp, slerp):
        result = function(a, b, 0.3)
        assert result.dtype == dtype
        assert torch.equal(result, function(a.float(), b.float(), 0.3).to(dtype))
    assert torch.equal(analogy(a, b, a), (a.float() - b.float() + a.float()).to(dtype))
    many, few = gaussian(5000, 2, dtype=dtype) + 20, gaussian(3, 2, seed=1, dtype=dtype)
    result = attribute_vector(many, few)
    assert result.dtype == dtype
    assert torch.equal(result, (many.float().mean(0) - few.float().mean(0)).to(dtype))


def test_double_precision_is_kept_for_a_number_t():
    a, b = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    assert lerp(a, b, 0.1).item() == 0.1


def test_traverse_flat():
    z = gaussian(4)
    path = traverse(z, 2, [-1.0, 0.0, 5.0])
    assert path.shape == (3, 4)
    assert path[:, 2].tolist() == [-1, 0, 5]
    assert torch.equal(path[:, [0, 1, 3]], z[[0, 1, 3]].expand(3, 3))
    assert torch.equal(traverse(z[None], -2, torch.tensor([-1.0, 0.0, 5.0])), path)


def test_traverse_spatial():
    z = gaussian(3, 4, 5)
    before = z.clone()
    path = traverse(z, 1, [7.0, 8.0])
    assert path.shape == (2, 3, 4, 5)
    assert torch.equal(path[1, 1], torch.full((4, 5), 8.0, dtype=z.dtype))
    assert torch.equal(path[:, [0, 2]], z[[0, 2]].expand(2, 2, 4, 5))
    assert torch.equal(traverse(z[None], 1, [7.0, 8.0]), path)

    single = traverse(z, (1, 2, 3), [7.0, 8.0])
    assert single[:, 1, 2, 3].tolist() == [7, 8]
    changed = (single != z).nonzero()
    assert changed.tolist() == [[0, 1, 2, 3], [1, 1, 2, 3]]
    assert torch.equal(z, before)


def test_traverse_is_differentiable():
    z, values = gaussian(4).requires_grad_(), torch.tensor([1.0, 2.0], requires_grad=True)
    traverse(z, 1, values).sum().backward()
    assert z.grad.tolist() == [2, 0, 2, 2]
    assert values.grad.tolist() == [1, 1]


def test_attribute_vector_and_analogy():
    with_, without = gaussian(6, 4, 2, 2), gaussian(5, 4, 2, 2, seed=1)
    expected = with_.numpy().mean(0) - without.numpy().mean(0)
    np.testing.assert_allclose(attribute_vector(with_, without), expected)
    a, b, c = gaussian(3, 2), gaussian(3, 2, seed=1), gaussian(3, 2, seed=2)
    np.testing.assert_allclose(analogy(a, b, c), a.numpy() - b.numpy() + c.numpy())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lerp(torch.zeros(3), torch.zeros(4), 0.5), "same shape"),
        (lambda: slerp(torch.zeros(2, 3), torch.zeros(1, 3), 0.5), "same shape"),
        (lambda: slerp(torch.zeros(()), torch.zeros(()), 0.5), r"\(B, C, H, W\)"),
        (lambda: slerp(torch.zeros(1, 2, 3, 4, 5), torch.zeros(1, 2, 3, 4, 5), 0.5), r"\(B, C, H, W\)"),
        (lambda: slerp(torch.zeros(3).long(), torch.zeros(3).long(), 0.5), "int64"),
        (lambda: slerp(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(2)), r"t of shape \(2,\)"),
        (lambda: slerp(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(1, 3)), r"t of shape \(1, 3\)"),
        (lambda: lerp(torch.zeros(3), torch.zeros(3), torch.zeros(3)), r"t of shape \(3,\)"),
        (lambda: interpolate(torch.zeros(3), torch.zeros(3), 1), "at least 2"),
        (lambda: interpolate(torch.zeros(3), torch.zeros(3), 5, "cubic"), "'slerp' and 'lerp'"),
        (lambda: traverse(torch.zeros(3), 3, [0.0]), "dim=3"),
        (lambda: traverse(torch.zeros(3), (0, 0, 0), [0.0]), "an index of D"),
        (lambda: traverse(torch.zeros(3, 4, 4), (0, 1), [0.0]), r"\(c, y, x\)"),
        (lambda: traverse(torch.zeros(3, 4, 4), (0, 1, 4), [0.0]), r"\(c, y, x\)"),
        (lambda: traverse(torch.zeros(2, 3), 0, [0.0]), "batch of 2"),
        (lambda: traverse(torch.zeros(3), 0, [[0.0]]), r"\(N,\)"),
        (lambda: attribute_vector(torch.zeros(2, 3), torch.zeros(2, 4)), "two batches"),
        (lambda: attribute_vector(torch.zeros(0, 3), torch.zeros(2, 3)), "at least one"),
        (lambda: attribute_vector(torch.zeros(3), torch.zeros(3)), "two batches"),
        (lambda: analogy(torch.zeros(3), torch.zeros(3), torch.zeros(2)), "same shape"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
