"""Finite scalar, lookup-free, residual and reparameterised quantisers against the claims of their papers."""

import math

import pytest
import torch

from vae_plugin.models import (
    FiniteScalarQuantizer,
    LookupFreeQuantizer,
    ResidualVectorQuantizer,
    SimVectorQuantizer,
    VectorQuantizer,
)
from vae_plugin.models.affine import CannotStandardizeError


def latents(dim, batch=2, side=16, seed=0, scale=1.0):
    return scale * torch.randn(batch, dim, side, side, generator=torch.Generator().manual_seed(seed))


def vectors_of(z):
    return z.movedim(1, -1).reshape(-1, z.shape[1])


def all_codes(quantizer):
    return vectors_of(quantizer.indices_to_codes(torch.arange(quantizer.codebook_size)[None, None]))


QUANTIZERS = {
    "ema": lambda: VectorQuantizer(16, 4),
    "gradient": lambda: VectorQuantizer(16, 4, codebook_update="gradient", entropy_weight=0.1),
    "fsq": lambda: FiniteScalarQuantizer((4, 3, 5, 2), 4),
    "fsq between layers": lambda: FiniteScalarQuantizer((8, 5), 4),
    "lfq": lambda: LookupFreeQuantizer(16, 4),
    "lfq between layers": lambda: LookupFreeQuantizer(256, 4),
    "rvq": lambda: ResidualVectorQuantizer(16, 4, num_quantizers=3),
    "rvq between layers": lambda: ResidualVectorQuantizer(16, 4, num_quantizers=2, codebook_dim=2),
    "simvq": lambda: SimVectorQuantizer(16, 4),
    "simvq between layers": lambda: SimVectorQuantizer(16, 4, codebook_dim=3),
}


@pytest.fixture(params=list(QUANTIZERS))
def quantizer(request):
    torch.manual_seed(0)
    return QUANTIZERS[request.param]()


def test_one_interface(quantizer):
    z = latents(4).requires_grad_()
    quantized, indices, losses = quantizer(z)
    several = (quantizer.codes_per_position,) if quantizer.codes_per_position > 1 else ()
    assert quantized.shape == z.shape
    assert indices.shape == (2, 16, 16, *several)
    assert indices.dtype == torch.long
    assert 0 <= indices.min() <= indices.max() < quantizer.codebook_size
    assert all(value.shape == () for value in losses.values())
    assert quantizer.nats_per_position == pytest.approx(
        quantizer.codes_per_position * math.log(quantizer.codebook_size)
    )
    sum(losses.values(), quantized.square().mean()).backward()
    assert torch.isfinite(z.grad).all()
    assert z.grad.abs().sum() > 0
    quantized, indices, _ = quantizer.eval()(z)
    torch.testing.assert_close(quantizer.indices_to_codes(indices), quantized, rtol=1e-6, atol=1e-6)


def test_the_losses_do_not_depend_on_the_size_of_batch_or_image(quantizer):
    quantizer.train()(latents(4))
    quantizer.eval()
    z = latents(4, side=8, seed=1)
    losses = quantizer(z)[2]
    for repeated in (z.repeat(3, 1, 1, 1), z.repeat(1, 1, 2, 3)):
        for name, value in quantizer(repeated)[2].items():
            torch.testing.assert_close(value, losses[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double", "to"])
def test_it_stays_in_float32_when_the_model_is_cast(quantizer, cast):
    quantizer.train()(latents(4))
    quantizer.eval()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    z = latents(4, seed=1).bfloat16()
    quantized, indices, _ = quantizer(z)
    assert quantized.dtype == torch.bfloat16
    model = torch.nn.Sequential(quantizer)
    model.to("cpu", torch.float16) if cast == "to" else getattr(model, cast)()
    for name, value in quantizer.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])
    assert torch.equal(quantizer(z)[1], indices)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_change_the_codes(quantizer, dtype):
    quantizer.train()(latents(4))
    quantizer.eval()
    z = latents(4, seed=1)
    expected = quantizer(z)
    with torch.autocast("cpu", dtype):
        quantized, indices, losses = quantizer(z)
        codes = quantizer.indices_to_codes(indices)
    assert torch.equal(indices, expected[1])
    assert torch.equal(quantized, expected[0])
    assert all(torch.equal(value, expected[2][name]) for name, value in losses.items())
    assert codes.dtype == torch.float32
    with torch.autocast("cpu", dtype):
        quantized, indices, _ = quantizer(z.to(dtype))
    assert quantized.dtype == dtype
    assert torch.equal(indices, quantizer(z.to(dtype).float())[1])


def paper_fsq(z, levels):
    """Mentzer et al. 2023, appendix A, as printed there, one vector at a time."""
    digits = []
    for value, level in zip(z.tolist(), levels, strict=True):
        half = (level - 1) * (1 + 1e-3) / 2
        offset = 0.0 if level % 2 else 0.5
        digits.append(round(math.tanh(value + math.atanh(offset / half)) * half - offset))
    return digits


@pytest.mark.parametrize("levels", [(2,), (3,), (4,), (5,), (8, 5, 5, 5), (8, 6, 5), (7, 5, 5, 5, 5), (2, 2, 3)])
def test_finite_scalars_reach_every_level_and_no_other(levels):
    quantizer = FiniteScalarQuantizer(levels, len(levels))
    assert quantizer.codebook_size == math.prod(levels)
    z = latents(len(levels), batch=8, side=32, scale=3.0)
    quantized, indices, losses = quantizer(z)
    assert losses == {}
    for i, level in enumerate(levels):
        half = level // 2
        assert (quantized[:, i].unique() * half).round().tolist() == list(range(-half, level - half))
    for vector, code in list(zip(vectors_of(z), vectors_of(quantized), strict=True))[:200]:
        digits = [round(c * (n // 2), 4) for c, n in zip(code.tolist(), levels, strict=True)]
        assert digits == paper_fsq(vector, levels)
    if quantizer.codebook_size < 100:
        assert indices.unique().numel() == quantizer.codebook_size


@pytest.mark.parametrize(
    "quantizer",
    [FiniteScalarQuantizer((8, 5, 5, 5), 4), FiniteScalarQuantizer((2, 7), 2), LookupFreeQuantizer(1024, 10)],
)
def test_every_index_has_its_own_code(quantizer):
    codes = all_codes(quantizer)
    assert codes.unique(dim=0).shape[0] == quantizer.codebook_size
    assert codes.abs().max() <= 1
    # A code is its own nearest: quantising it gives its index.
    z = 4 * codes if isinstance(quantizer, LookupFreeQuantizer) else _inverse_bound(quantizer, codes)
    indices = quantizer(z.T.reshape(1, -1, 1, len(codes)))[1].flatten()
    assert torch.equal(indices, torch.arange(quantizer.codebook_size))


def _inverse_bound(quantizer, codes):
    levels = torch.tensor(quantizer.levels)
    half = (levels - 1) * (1 + 1e-3) / 2
    offset = torch.where(levels % 2 == 0, 0.5, 0.0)
    return ((codes * (levels // 2) + offset) / half).atanh() - (offset / half).atanh()


def test_a_large_index_is_exact_whatever_the_precision_of_the_latents():
    quantizer = FiniteScalarQuantizer((8, 8, 8, 5, 5, 5), 6)
    z = latents(6, scale=2.0).bfloat16()
    indices = quantizer(z)[1]
    assert indices.max() > 2**15
    expected = quantizer(z.double())[1]
    assert torch.equal(indices, expected)
    codes = quantizer.indices_to_codes(indices)
    quantizer.bfloat16()
    assert torch.equal(quantizer(z)[1], expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer(z)[1], expected)
        assert torch.equal(quantizer.indices_to_codes(indices), codes)


def test_a_sign_is_a_bit():
    quantizer = LookupFreeQuantizer(8, 3)
    z = torch.tensor([[-0.1, 5.0, 0.2], [0.0, -1.0, -1.0], [1.0, 1.0, 1.0]]).T.reshape(1, 3, 1, 3)
    quantized, indices, losses = quantizer(z)
    assert vectors_of(quantized).tolist() == [[-1, 1, 1], [-1, -1, -1], [1, 1, 1]]
    assert indices.flatten().tolist() == [6, 0, 7]
    torch.testing.assert_close(losses["commitment"], 0.25 * (z - quantized).square().mean())


@pytest.mark.parametrize("size", [0, 1, 3, 1000])
def test_signs_need_a_power_of_two(size):
    with pytest.raises(ValueError, match="power of two"):
        LookupFreeQuantizer(size, 3)


@pytest.mark.parametrize("levels", [(), (1,), (8, 0), (1001,)])
def test_levels_are_two_to_a_thousand(levels):
    with pytest.raises(ValueError, match="give at least one level, each between 2 and 1000"):
        FiniteScalarQuantizer(levels, 3)


@pytest.mark.parametrize("level", [2, 3, 999, 1000])
def test_no_latent_reaches_past_the_outermost_levels(level):
    z = torch.tensor([-1e4, -50.0, 50.0, 1e4]).reshape(1, 1, 1, 4)
    quantized, indices, _ = FiniteScalarQuantizer((level,), 1)(z)
    assert indices.flatten().tolist() == [0, 0, level - 1, level - 1]
    assert quantized.abs().max() <= 1


def test_each_stage_quantises_the_residual_of_the_stages_before():
    torch.manual_seed(0)
    quantizer = ResidualVectorQuantizer(16, 3, num_quantizers=3)
    for i in range(5):
        quantizer(latents(3, seed=i))
    quantizer.eval()
    z = latents(3, seed=9)
    quantized, indices, losses = quantizer(z)
    residual, errors, commitment = vectors_of(z), [], 0.0
    for i, stage in enumerate(quantizer.stages):
        nearest = torch.cdist(residual, stage.codebook).argmin(1)
        assert torch.equal(indices[..., i].flatten(), nearest)
        residual = residual - stage.codebook[nearest]
        errors.append(residual.square().mean())
        commitment = commitment + 0.25 * errors[-1]
    assert errors[0] > errors[1] > errors[2]
    torch.testing.assert_close(vectors_of(z - quantized), residual, rtol=1e-4, atol=1e-5)
    assert torch.equal(quantizer.indices_to_codes(indices), quantized)
    torch.testing.assert_close(losses["commitment"], commitment)


def test_the_losses_of_the_stages_are_summed_and_reach_every_codebook():
    torch.manual_seed(0)
    quantizer = ResidualVectorQuantizer(8, 3, num_quantizers=3, codebook_update="gradient", kmeans_init=False).eval()
    z = latents(3, side=4).requires_grad_()
    losses = quantizer(z)[2]
    sum(losses.values()).backward()
    residual, on_z = vectors_of(z.detach()), 0.0
    for stage in quantizer.stages:
        book = stage.codebook.detach().requires_grad_()
        chosen = book[torch.cdist(residual, book.detach()).argmin(1)]
        (residual - chosen).square().mean().backward()
        torch.testing.assert_close(stage.codebook.grad, book.grad)
        residual = residual - chosen.detach()
        on_z = on_z + 2 * 0.25 * residual / residual.numel()
    torch.testing.assert_close(vectors_of(z.grad), on_z)


def test_a_wrong_number_of_residual_indices_is_refused():
    quantizer = ResidualVectorQuantizer(16, 3, num_quantizers=3)
    with pytest.raises(ValueError, match=r"expected \(batch, height, width, 3\)"):
        quantizer.indices_to_codes(torch.zeros(1, 2, 2, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="give at least 2, or use a VectorQuantizer"):
        ResidualVectorQuantizer(16, 3, num_quantizers=1)


def test_a_training_step_moves_every_code_of_the_reparameterised_codebook():
    torch.manual_seed(0)
    sim, plain = SimVectorQuantizer(64, 4), VectorQuantizer(64, 4, codebook_update="gradient", kmeans_init=False)
    z = latents(4, batch=1, side=2) * 0.01 + 1  # four vectors that share one or two codes
    moved = {}
    for name, quantizer in (("sim", sim), ("plain", plain)):
        before = all_codes(quantizer).detach().clone()
        quantizer.dead_code_threshold = 0.0
        optimizer = torch.optim.SGD(quantizer.parameters(), 1.0)
        losses = quantizer(z)[2]
        sum(losses.values()).backward()
        optimizer.step()
        moved[name] = int((all_codes(quantizer) != before).any(1).sum())
    assert moved["sim"] == 64
    assert moved["plain"] <= 2


def test_the_loss_of_the_reparameterised_codebook_has_the_papers_weights():
    torch.manual_seed(0)
    quantizer = SimVectorQuantizer(16, 4, commitment_weight=0.4)
    z = latents(4).requires_grad_()
    quantized, _, losses = quantizer(z)
    error = (z - quantized).square().mean()
    torch.testing.assert_close(losses["commitment"], 0.4 * error)
    torch.testing.assert_close(losses["codebook"], error)
    sum(losses.values()).backward()
    torch.testing.assert_close(z.grad, 2 * 0.4 * (z - quantized).detach() / z.numel())
    assert quantizer.transform.weight.grad.abs().sum() > 0
    assert not quantizer.frozen_codes.requires_grad


def test_an_unknown_gradient_is_refused():
    for quantizer in (SimVectorQuantizer, ResidualVectorQuantizer):
        with pytest.raises(ValueError, match="gradient is 'none': it must be one of straight_through, rotation"):
            quantizer(16, 4, gradient="none")


@pytest.mark.parametrize(
    ("quantizer", "std", "message"),
    [
        (FiniteScalarQuantizer((4, 3), 2), (1.0, 1.0), "codes of a FiniteScalarQuantizer are fixed"),
        (LookupFreeQuantizer(4, 2), (1.0, 1.0), "codes of a LookupFreeQuantizer are fixed"),
        (VectorQuantizer(4, 2, distance="cosine"), (1.0, 1.0), "only Euclidean codes can be shifted"),
        (VectorQuantizer(4, 2), (1.0, 2.0), "scaled by a single number"),
        (ResidualVectorQuantizer(4, 2), (1.0, 2.0), "scaled by a single number"),
        (SimVectorQuantizer(4, 2), (1.0, 2.0), "all channels by the same number"),
    ],
)
def test_codes_that_cannot_be_standardised_say_so(quantizer, std, message):
    with pytest.raises(CannotStandardizeError, match=message):
        quantizer.standardize(torch.ones(2), torch.tensor(std))
