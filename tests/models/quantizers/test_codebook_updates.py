"""Codebook updates (moving averages, revival, k-means) against plain loops and known clusters."""

import numpy as np
import pytest
import torch

from vae_plugin.models import VectorQuantizer
from vae_plugin.models.quantizers.clustering import kmeans


def latents(batch=2, dim=3, side=4, seed=0):
    return torch.randn(batch, dim, side, side, generator=torch.Generator().manual_seed(seed))


def vectors_of(z):
    return z.movedim(1, -1).reshape(-1, z.shape[1])


def slow_averages(steps, codebook, decay, epsilon, first_count=1.0):
    """Van den Oord et al. 2017, appendix A.1, with Laplace smoothing, in loops over float64.

    They begin as if each code had been chosen once, by itself; some implementations begin with `first_count` 0.
    """
    codebook = codebook.numpy().astype(np.float64)
    size, dim = codebook.shape
    counts, sums = np.full(size, first_count), codebook.copy()
    for vectors in steps:
        new_counts, new_sums = np.zeros(size), np.zeros((size, dim))
        for vector in vectors.numpy().astype(np.float64):
            nearest = int(((codebook - vector) ** 2).sum(1).argmin())
            new_counts[nearest] += 1
            new_sums[nearest] += vector
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
    codebook, counts, sums = slow_averages([vectors_of(z) for z in batches], start, 0.7, 1e-3)
    np.testing.assert_allclose(quantizer.codebook.detach().numpy(), codebook, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(quantizer.counts.numpy(), counts, rtol=1e-5)
    np.testing.assert_allclose(quantizer.sums.numpy(), sums, rtol=1e-4, atol=1e-5)


def test_a_step_does_not_use_the_codes_it_produces():
    quantizer = VectorQuantizer(8, 3, decay=0.1, kmeans_init=False)
    before = quantizer.codebook.detach().clone()
    z = latents()
    quantized, indices, _ = quantizer(z)
    assert torch.equal(vectors_of(quantized), before[indices.flatten()])
    assert not torch.equal(quantizer.codebook, before)


def test_an_unused_code_does_not_move():
    """If counts started at zero, the code would be divided by almost nothing and thrown far away."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(512, 3, kmeans_init=False, dead_code_threshold=0.0)
    before = quantizer.codebook.detach().clone()
    batches = [latents(seed=i) for i in range(20)]
    for z in batches:
        quantizer(z)
    unused = quantizer.counts < 0.8185  # 0.99^20 = 0.8179
    assert unused.sum() > 50
    torch.testing.assert_close(quantizer.codebook[unused], before[unused], rtol=1e-3, atol=1e-4)
    assert quantizer.codebook.norm(dim=1).max() < 5
    thrown_far, _, _ = slow_averages([vectors_of(batches[0])], before, 0.99, 1e-5, first_count=0.0)
    assert np.linalg.norm(thrown_far, axis=1).max() > 1000


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_dead_codes_are_moved_to_vectors_with_all_their_statistics(update):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(8, 3, codebook_update=update, decay=0.5, kmeans_init=False, dead_code_threshold=0.5)
    quantizer.codebook.data[4:] = 1000 + torch.arange(12).reshape(4, 3)  # out of reach
    if update == "ema":
        quantizer.sums.copy_(quantizer.codebook.data)
    z = latents()
    quantizer(z)
    revived = quantizer.codebook[4:]
    same = (revived[:, None] == vectors_of(z)).all(2)
    assert same.any(1).all()
    assert len({int(row.nonzero()[0]) for row in same}) == 4  # four different vectors
    share = quantizer.counts[4:]
    assert torch.equal(share, share[:1].expand(4))
    assert share[0] > quantizer.dead_code_threshold * quantizer.counts.sum() / 8
    if update == "ema":
        torch.testing.assert_close(quantizer.sums[4:], revived * share[:, None])


def test_with_more_dead_codes_than_vectors_each_vector_revives_one():
    quantizer = VectorQuantizer(64, 3, codebook_update="gradient", kmeans_init=False, dead_code_threshold=0.5)
    quantizer.codebook.data[1:] = 1000.0
    quantizer.counts[1:] = 0.0
    z = latents(batch=1)  # 16 vectors for 63 codes
    quantizer(z)
    far = (quantizer.codebook == 1000).all(1)
    assert far.sum() == 63 - 16
    assert sorted(quantizer.codebook[~far][1:].tolist()) == sorted(vectors_of(z).tolist())


def test_nothing_is_revived_when_revival_is_off():
    quantizer = VectorQuantizer(8, 3, codebook_update="gradient", kmeans_init=False, dead_code_threshold=0.0)
    quantizer.codebook.data[4:] = 1000.0
    for i in range(10):
        quantizer(latents(seed=i))
    assert (quantizer.codebook[4:] == 1000).all()


def test_revival_keeps_the_codebook_in_use():
    """All codes but one start far from the vectors: without revival that one takes everything."""

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
    """Latents (batch, 2, side, side) in tight clusters, their centres, and the cluster of each latent."""
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
    assert quantizer.counts.sum() == pytest.approx(which.numel(), rel=1e-4)
    distances = torch.cdist(centres, quantizer.eval().codebook)
    assert distances.amin(1).max() < 0.05
    assert distances.amin(0).max() < 0.05
    indices = quantizer(z)[1]
    assert indices.unique().numel() == 40
    for code in range(40):  # no code serves two clusters
        assert which[indices == code].unique().numel() == 1


def test_k_means_on_the_sphere_places_the_codes_in_the_clusters_directions():
    z, centres, _ = clusters()
    quantizer = VectorQuantizer(40, 2, distance="cosine")
    quantizer(z * torch.rand(z.shape[0], 1, *z.shape[2:]).add(0.5))  # lengths do not matter
    torch.testing.assert_close(quantizer.codebook.norm(dim=1), torch.ones(40))
    cosines = torch.nn.functional.normalize(centres, dim=1) @ quantizer.codebook.T
    assert cosines.amax(1).min() > 0.9999
    assert cosines.amax(0).min() > 0.9999


def test_k_means_places_codes_of_lower_dimension_among_the_projected_vectors():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(16, 6, codebook_dim=2)
    z = latents(dim=6, batch=8) + 10
    quantizer(z)
    vectors = quantizer.project_in(vectors_of(z)).detach()
    assert torch.cdist(quantizer.codebook, vectors).amin(1).max() < 0.5
    assert quantizer.eval()(z)[1].unique().numel() == 16


def test_lloyds_algorithm_ends_where_no_centre_moves():
    z, _, _ = clusters(batch=2)
    vectors = vectors_of(z)
    centres, counts = kmeans(vectors, 12, iterations=100, seed=3)
    nearest = torch.cdist(vectors.double(), centres.double()).argmin(1)
    for i in range(12):
        torch.testing.assert_close(centres[i], vectors[nearest == i].mean(0))
    assert torch.equal(counts, torch.bincount(nearest, minlength=12).float())


def test_k_means_uses_several_batches_when_one_is_too_small():
    quantizer = VectorQuantizer(40, 2, dead_code_threshold=0.0)
    placed = []
    for seed in range(5):
        z, _, _ = clusters(batch=1, side=6, seed=seed)  # 36 vectors: 18 codes
        _, indices, _ = quantizer(z)
        placed.append(int(quantizer.num_placed))
        assert indices.max() < placed[-1]  # codes that are not placed yet are not used
    assert placed == [18, 36, 40, 40, 40]
    # The counts are those of one batch whatever the portions, or codes of a late portion would seem dead.
    assert quantizer.counts.sum() == pytest.approx(36, rel=0.15)
    assert torch.cdist(clusters()[1], quantizer.codebook).amin(1).max() < 0.1  # a code in every cluster


def test_all_codes_are_available_before_training():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(40, 2).eval()
    assert quantizer(latents(batch=64, dim=2))[1].unique().numel() > 20


@pytest.mark.parametrize(
    "options", [{}, {"codebook_update": "gradient"}, {"distance": "cosine"}, {"codebook_size": 100}]
)
def test_training_resumes_from_a_saved_state_bit_for_bit(options):
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
