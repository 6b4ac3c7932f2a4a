"""The vector quantiser against the paper's loss by hand."""

import pytest
import torch
from diffusers.models.autoencoders.vae import VectorQuantizer as DiffusersVectorQuantizer

from vae_plugin.models import VectorQuantizer

BETA = 0.25


def latents(batch=2, dim=3, side=4, seed=0):
    return torch.randn(batch, dim, side, side, generator=torch.Generator().manual_seed(seed))


def by_gradient(**options):
    torch.manual_seed(1)
    options = {"codebook_update": "gradient", "kmeans_init": False, "dead_code_threshold": 0.0, **options}
    return VectorQuantizer(8, 3, commitment_weight=BETA, **options)


def vectors_of(z):
    return z.movedim(1, -1).reshape(-1, z.shape[1])


def hand_derived(z, codebook, indices):
    """Gradients of mean |sg[z] - e|^2 + beta mean |z - sg[e]|^2, means over all elements."""
    vectors, chosen = vectors_of(z), indices.flatten()
    difference = vectors - codebook[chosen]
    on_z = 2 * BETA * difference / vectors.numel()
    on_codebook = torch.zeros_like(codebook)
    for vector_difference, code in zip(difference, chosen.tolist(), strict=True):
        on_codebook[code] -= 2 * vector_difference / vectors.numel()
    return on_z, on_codebook


def test_the_gradients_are_the_papers():
    quantizer = by_gradient()
    z = latents().requires_grad_()
    _, indices, losses = quantizer(z)
    sum(losses.values()).backward()
    on_z, on_codebook = hand_derived(z.detach(), quantizer.codebook.detach(), indices)
    torch.testing.assert_close(vectors_of(z.grad), on_z)
    torch.testing.assert_close(quantizer.codebook.grad, on_codebook)


def test_the_quantiser_of_diffusers_swaps_their_weights():
    """Why `VQModel` must not be trained as it is: by default it puts beta on the codebook loss."""
    ours = by_gradient()
    theirs = DiffusersVectorQuantizer(8, 3, beta=BETA)
    theirs.embedding.weight.data.copy_(ours.codebook.data)
    z = latents().requires_grad_()
    assert theirs.legacy
    theirs(z)[1].backward()
    _, indices, _ = ours(latents())
    on_z, on_codebook = hand_derived(z.detach(), ours.codebook.detach(), indices)
    torch.testing.assert_close(vectors_of(z.grad), on_z / BETA)
    torch.testing.assert_close(theirs.embedding.weight.grad, on_codebook * BETA)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_the_loss_does_not_depend_on_the_size_of_batch_or_image(update):
    quantizer = by_gradient(codebook_update=update, entropy_weight=0.3).eval()
    z = latents()
    losses = quantizer(z)[2]
    assert losses.keys() == {"commitment", "entropy"} | ({"codebook"} if update == "gradient" else set())
    for repeated in (z.repeat(5, 1, 1, 1), z.repeat(1, 1, 3, 2)):
        for name, value in quantizer(repeated)[2].items():
            torch.testing.assert_close(value, losses[name])


def test_the_output_is_the_code_and_its_gradient_the_latents():
    quantizer = by_gradient()
    z = latents().requires_grad_()
    quantized, indices, _ = quantizer(z)
    assert torch.equal(vectors_of(quantized), quantizer.codebook[indices.flatten()])
    direction = torch.randn_like(quantized)
    (quantized * direction).sum().backward()
    assert torch.equal(z.grad, direction)
    assert quantizer.codebook.grad is None  # the reconstruction does not train the codes


def test_codes_are_the_nearest():
    quantizer = by_gradient().eval()
    z = latents()
    distances = torch.cdist(vectors_of(z).double(), quantizer.codebook.detach().double())
    assert torch.equal(quantizer(z)[1].flatten(), distances.argmin(1))


def test_nothing_changes_outside_training():
    quantizer = VectorQuantizer(8, 3).train()
    quantizer(latents())
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer(latents(seed=1), update=False)
    quantizer.eval()(latents(seed=2))
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    quantizer(latents(seed=2), update=True)
    assert not torch.equal(quantizer.codebook, before["codebook"])
    assert quantizer.num_updates == 2


def test_cosine_codes_and_vectors_have_norm_one():
    quantizer = VectorQuantizer(8, 3, distance="cosine")
    for i in range(4):
        quantizer(latents(seed=i))
    torch.testing.assert_close(quantizer.codebook.norm(dim=1), torch.ones(8))
    z = latents(seed=9)
    quantized, indices, losses = quantizer.eval()(z)
    vectors = torch.nn.functional.normalize(vectors_of(z), dim=1)
    assert torch.equal(indices.flatten(), (vectors @ quantizer.codebook.T).argmax(1))
    expected = 0.25 * (vectors - vectors_of(quantized)).square().mean()
    torch.testing.assert_close(losses["commitment"], expected)
    assert torch.equal(quantizer(7 * z)[1], indices)


def test_codes_of_lower_dimension_sit_between_two_linear_layers():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(8, 6, codebook_dim=2, codebook_update="gradient", kmeans_init=False)
    assert quantizer.codebook.shape == (8, 2)
    z = latents(dim=6).requires_grad_()
    quantized, indices, losses = quantizer(z)
    vectors = vectors_of(z) @ quantizer.project_in.weight.T + quantizer.project_in.bias
    assert torch.equal(indices.flatten(), torch.cdist(vectors, quantizer.codebook).argmin(1))
    codes = quantizer.codebook[indices.flatten()] @ quantizer.project_out.weight.T + quantizer.project_out.bias
    torch.testing.assert_close(vectors_of(quantized), codes)
    (quantized.square().sum() + sum(losses.values())).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in quantizer.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codebook_update": "adam"}, "codebook_update is 'adam': it must be one of ema, gradient"),
        ({"distance": "manhattan"}, "it must be one of euclidean, cosine"),
        ({"gradient": "none"}, "it must be one of straight_through, rotation"),
        ({"codebook_size": 0}, r"codebook_size \(0\) must be at least 1"),
        ({"decay": 1.0}, r"decay \(1.0\) in \[0, 1\)"),
        ({"decay": -0.1}, r"decay \(-0.1\) in \[0, 1\)"),
    ],
)
def test_impossible_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VectorQuantizer(**{"codebook_size": 8, "dim": 3, **options})


@pytest.mark.parametrize("shape", [(2, 4, 4, 4), (2, 3, 4), (3, 4, 4)])
def test_latents_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(batch, 3, height, width\)"):
        VectorQuantizer(8, 3)(torch.zeros(shape))


def test_indices_that_are_not_codes_are_refused():
    quantizer = VectorQuantizer(8, 3)
    with pytest.raises(ValueError, match="got indices from 0 to 8: the codebook has 0 to 7"):
        quantizer.indices_to_codes(torch.arange(9).reshape(1, 3, 3))
    with pytest.raises(ValueError, match="got indices from -1 to 0"):
        quantizer.indices_to_codes(torch.tensor([[[-1, 0]]]))
    with pytest.raises(ValueError, match=r"expected \(batch, height, width\)"):
        quantizer.indices_to_codes(torch.arange(8))
