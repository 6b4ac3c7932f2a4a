"""The vector quantiser against the paper's loss by hand, and its moving averages against plain loops."""

import numpy as np
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


def tokens_of(z):
    return z.movedim(1, -1).reshape(-1, z.shape[1])


def hand_derived(z, codebook, indices):
    """Gradients of mean |sg[z] - e|^2 + beta mean |z - sg[e]|^2, means over all elements."""
    tokens, chosen = tokens_of(z), indices.flatten()
    difference = tokens - codebook[chosen]
    on_z = 2 * BETA * difference / tokens.numel()
    on_codebook = torch.zeros_like(codebook)
    for token_difference, code in zip(difference, chosen.tolist(), strict=True):
        on_codebook[code] -= 2 * token_difference / tokens.numel()
    return on_z, on_codebook


def test_the_gradients_are_the_papers():
    quantizer = by_gradient()
    z = latents().requires_grad_()
    _, indices, losses = quantizer(z)
    sum(losses.values()).backward()
    on_z, on_codebook = hand_derived(z.detach(), quantizer.codebook.detach(), indices)
    torch.testing.assert_close(tokens_of(z.grad), on_z)
    torch.testing.assert_close(quantizer.codebook.grad, on_codebook)


def test_diffusers_own_quantizer_weighs_them_the_other_way_round():
    """Why `VQModel` is not to be trained as it is: its default puts beta on the codebook's side."""
    ours = by_gradient()
    theirs = DiffusersVectorQuantizer(8, 3, beta=BETA)
    theirs.embedding.weight.data.copy_(ours.codebook.data)
    z = latents().requires_grad_()
    theirs(z)[1].backward()
    _, indices, _ = ours(latents())
    on_z, on_codebook = hand_derived(z.detach(), ours.codebook.detach(), indices)
    torch.testing.assert_close(tokens_of(z.grad), on_z / BETA)
    torch.testing.assert_close(theirs.embedding.weight.grad, on_codebook * BETA)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_the_loss_does_not_depend_on_the_size_of_batch_or_image(update):
    quantizer = by_gradient(codebook_update=update).eval()
    z = latents()
    losses = quantizer(z)[2]
    for repeated in (z.repeat(5, 1, 1, 1), z.repeat(1, 1, 3, 2)):
        for name, value in quantizer(repeated)[2].items():
            torch.testing.assert_close(value, losses[name])


def test_the_output_is_the_code_and_its_gradient_the_latents():
    quantizer = by_gradient()
    z = latents().requires_grad_()
    quantized, indices, _ = quantizer(z)
    assert torch.equal(tokens_of(quantized), quantizer.codebook[indices.flatten()])
    direction = torch.randn_like(quantized)
    (quantized * direction).sum().backward()
    assert torch.equal(z.grad, direction)
    assert quantizer.codebook.grad is None  # the reconstruction says nothing to the codes


def test_codes_are_the_nearest():
    quantizer = by_gradient().eval()
    z = latents()
    distances = torch.cdist(tokens_of(z).double(), quantizer.codebook.detach().double())
    assert torch.equal(quantizer(z)[1].flatten(), distances.argmin(1))


def slow_averages(steps, codebook, decay, epsilon):
    """Van den Oord et al. 2017, appendix A.1, with Laplace smoothing, in loops over float64."""
    codebook = codebook.numpy().astype(np.float64)
    size, dim = codebook.shape
    counts, sums = np.ones(size), codebook.copy()
    for tokens in steps:
        new_counts, new_sums = np.zeros(size), np.zeros((size, dim))
        for token in tokens.numpy().astype(np.float64):
            nearest = int(((codebook - token) ** 2).sum(1).argmin())
            new_counts[nearest] += 1
            new_sums[nearest] += token
        counts = decay * counts + (1 - decay) * new_counts
        sums = decay * sums + (1 - decay) * new_sums
        smoothed = (counts + epsilon) / (counts.sum() + size * epsilon) * counts.sum()
        codebook = sums / smoothed[:, None]
    return codebook, counts, sums


def test_the_moving_averages_are_those_of_plain_loops():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(8, 3, decay=0.7, epsilon=1e-3, kmeans_init=False, dead_code_threshold=0.0)
    start = quantizer.codebook.detach().clone()
    batches = [latents(seed=i) for i in range(6)]
    for batch in batches:
        quantizer(batch)
    codebook, counts, sums = slow_averages([tokens_of(z) for z in batches], start, 0.7, 1e-3)
    np.testing.assert_allclose(quantizer.codebook.detach().numpy(), codebook, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(quantizer.counts.numpy(), counts, rtol=1e-5)
    np.testing.assert_allclose(quantizer.sums.numpy(), sums, rtol=1e-4, atol=1e-5)


def test_a_step_does_not_see_the_codes_that_it_makes():
    quantizer = VectorQuantizer(8, 3, decay=0.1, kmeans_init=False)
    before = quantizer.codebook.detach().clone()
    z = latents()
    quantized, indices, _ = quantizer(z)
    assert torch.equal(tokens_of(quantized), before[indices.flatten()])
    assert not torch.equal(quantizer.codebook, before)


def test_a_code_that_nobody_chooses_stays_where_it_is():
    """With averages that begin at zero it would be divided by next to nothing, and be thrown far away."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(512, 3, kmeans_init=False, dead_code_threshold=0.0)
    before = quantizer.codebook.detach().clone()
    for i in range(20):
        quantizer(latents(seed=i))
    unused = quantizer.counts < 0.8185  # 0.99^20 = 0.8179
    assert unused.sum() > 50
    torch.testing.assert_close(quantizer.codebook[unused], before[unused], rtol=1e-3, atol=1e-4)
    assert quantizer.codebook.norm(dim=1).max() < 5


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_dead_codes_are_moved_to_tokens_with_all_their_statistics(update):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(8, 3, codebook_update=update, decay=0.5, kmeans_init=False, dead_code_threshold=0.5)
    quantizer.codebook.data[4:] = 1000 + torch.arange(12).reshape(4, 3)  # out of reach
    if update == "ema":
        quantizer.sums.copy_(quantizer.codebook.data)
    z = latents()
    quantizer(z)
    revived = quantizer.codebook[4:]
    same = (revived[:, None] == tokens_of(z)).all(2)
    assert same.any(1).all()
    assert len({int(row.nonzero()[0]) for row in same}) == 4  # four different tokens
    share = quantizer.counts[4:]
    assert torch.equal(share, share[:1].expand(4))
    assert share[0] > quantizer.dead_code_threshold * quantizer.counts.sum() / 8
    if update == "ema":
        torch.testing.assert_close(quantizer.sums[4:], revived * share[:, None])


def test_nothing_is_revived_when_that_is_off():
    quantizer = VectorQuantizer(8, 3, codebook_update="gradient", kmeans_init=False, dead_code_threshold=0.0)
    quantizer.codebook.data[4:] = 1000.0
    for i in range(10):
        quantizer(latents(seed=i))
    assert (quantizer.codebook[4:] == 1000).all()


def test_revival_keeps_the_book_in_use():
    """Codes that begin far from all tokens but one: without revival it takes everything."""

    def used(threshold):
        torch.manual_seed(0)
        quantizer = VectorQuantizer(64, 3, decay=0.9, kmeans_init=False, dead_code_threshold=threshold)
        quantizer.codebook.data[1:] += 100
        quantizer.sums.copy_(quantizer.codebook.data)
        for i in range(30):
            quantizer(latents(batch=16, seed=i))
        return quantizer.eval()(latents(batch=64, seed=99))[1].unique().numel()

    assert used(0.0) == 1
    assert used(0.03) == 64


def clusters(batch=8, side=8, number=10, seed=0):
    """Latents (batch, 2, side, side) in tight clusters, their centres, and whose each one is."""
    generator = torch.Generator().manual_seed(seed)
    angles = torch.arange(number) * 2 * torch.pi / number
    centres = 5 * torch.stack([angles.cos(), angles.sin()], 1)
    which = torch.randint(number, (batch, side, side), generator=generator)
    noise = 0.01 * torch.randn(batch, side, side, 2, generator=generator)
    return (centres[which] + noise).movedim(-1, 1), centres, which


def test_k_means_places_the_codes_on_the_clusters():
    z, centres, which = clusters()
    quantizer = VectorQuantizer(40, 2)
    assert quantizer.num_placed == 0
    quantizer(z)
    assert quantizer.num_placed == 40
    nearest = torch.cdist(centres, quantizer.eval().codebook).amin(1)
    assert nearest.max() < 0.05
    assert torch.cdist(quantizer.codebook, centres).amin(1).max() < 0.5
    # No code serves two clusters.
    indices = quantizer(z)[1]
    for code in indices.unique():
        assert which[indices == code].unique().numel() == 1


def test_k_means_goes_on_over_the_first_batches_when_one_is_too_small():
    quantizer = VectorQuantizer(40, 2)
    placed = []
    for seed in range(5):
        z, _, _ = clusters(batch=1, side=6, seed=seed)  # 36 tokens: 18 codes
        _, indices, _ = quantizer(z)
        placed.append(int(quantizer.num_placed))
        assert indices.max() < placed[-1]  # codes that wait for their place are not chosen
    assert placed == [18, 36, 40, 40, 40]
    assert quantizer.counts.min() > 0


def test_before_any_training_all_codes_can_be_chosen():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(40, 2).eval()
    assert quantizer(latents(batch=64, dim=2))[1].unique().numel() > 20


@pytest.mark.parametrize(
    "options", [{}, {"codebook_update": "gradient"}, {"distance": "cosine"}, {"codebook_size": 100}]
)
def test_training_goes_on_from_a_saved_state_bit_for_bit(options):
    def make():
        torch.manual_seed(0)
        return VectorQuantizer(**{"codebook_size": 16, "dim": 3, "decay": 0.8, "dead_code_threshold": 0.5, **options})

    whole, first, second = (
        make(),
        make(),
        VectorQuantizer(**{"codebook_size": 16, "dim": 3, "decay": 0.8, "dead_code_threshold": 0.5, **options}),
    )
    for i in range(10):
        whole(latents(seed=i))
        (first if i < 2 else second)(latents(seed=i))
        if i == 1:
            second.load_state_dict(first.state_dict())
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_nothing_changes_outside_training():
    quantizer = VectorQuantizer(8, 3).train()
    quantizer(latents())
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer(latents(seed=1), update=False)
    quantizer.eval()(latents(seed=2))
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


def test_cosine_codes_and_tokens_have_norm_one():
    quantizer = VectorQuantizer(8, 3, distance="cosine")
    for i in range(4):
        quantizer(latents(seed=i))
    torch.testing.assert_close(quantizer.codebook.norm(dim=1), torch.ones(8))
    z = latents(seed=9)
    quantized, indices, losses = quantizer.eval()(z)
    tokens = torch.nn.functional.normalize(tokens_of(z), dim=1)
    assert torch.equal(indices.flatten(), (tokens @ quantizer.codebook.T).argmax(1))
    expected = 0.25 * (tokens - tokens_of(quantized)).square().mean()
    torch.testing.assert_close(losses["commitment"], expected)
    assert torch.equal(quantizer(7 * z)[1], indices)


def test_codes_of_fewer_numbers_stand_between_two_linear_layers():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(8, 6, codebook_dim=2, codebook_update="gradient", kmeans_init=False)
    assert quantizer.codebook.shape == (8, 2)
    z = latents(dim=6).requires_grad_()
    quantized, indices, losses = quantizer(z)
    tokens = tokens_of(z) @ quantizer.project_in.weight.T + quantizer.project_in.bias
    assert torch.equal(indices.flatten(), torch.cdist(tokens, quantizer.codebook).argmin(1))
    codes = quantizer.codebook[indices.flatten()] @ quantizer.project_out.weight.T + quantizer.project_out.bias
    torch.testing.assert_close(tokens_of(quantized), codes)
    (quantized.square().sum() + sum(losses.values())).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in quantizer.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codebook_update": "adam"}, "codebook_update is 'adam': it must be one of ema, gradient"),
        ({"distance": "manhattan"}, "it must be one of euclidean, cosine"),
        ({"gradient": "none"}, "it must be one of straight_through, rotation"),
        ({"codebook_size": 0}, "must be at least 1"),
        ({"decay": 1.0}, "decay"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
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
    with pytest.raises(ValueError, match=r"expected \(batch, height, width\)"):
        quantizer.indices_to_codes(torch.arange(8))
