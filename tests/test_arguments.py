"""Calls from Python with arguments of every wrong kind: each is a sentence, none an error of torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vae_plugin import AutoencoderVAE, AutoencoderVQVAE, latents, metrics, models, objectives
from vae_plugin.arguments import ArgumentError, Real, Tensor, Whole, accepts
from vae_plugin.datasets import Circles

TINY = {"block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": 16}


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def calls():
    torch.manual_seed(0)
    vae, vq = AutoencoderVAE(**TINY).eval(), AutoencoderVQVAE(**TINY, num_vq_embeddings=16).eval()
    x, z, indices = rand(2, 3, 16, 16), rand(2, 4, 8, 8), torch.zeros(2, 8, 8, dtype=torch.long)
    mixture = models.DiscretizedLogisticMixture(2)
    return {
        "encode": (vae.encode, x),
        "decode": (vae.decode, z),
        "elbo": (vae.elbo, x),
        "log_likelihood": (vae.log_likelihood, x, 2),
        "sample": (vae.sample, 1),
        "standardize_latents": (vae.standardize_latents, rand(4), rand(4).abs() + 0.1),
        "vq encode": (vq.encode, x),
        "vq decode": (vq.decode, z),
        "decode_indices": (vq.decode_indices, indices),
        "lerp": (latents.lerp, z, z + 1, 0.5),
        "slerp": (latents.slerp, z, z + 1, 0.5),
        "interpolate": (latents.interpolate, z, z + 1, 3),
        "analogy": (latents.analogy, z[0], z[1], z[0]),
        "importance_weighted_bound": (objectives.importance_weighted_bound, vae, x, 2),
        "TrainingObjective": (objectives.TrainingObjective, 1.0, 1.0, 3, 0.5),
        "Bernoulli": (models.Bernoulli().log_prob, x, x),
        "mixture": (mixture.log_prob, x, rand(2, 18, 16, 16)),
        "DiagonalGaussian": (models.DiagonalGaussian, z, z),
        "nearest_code": (models.nearest_code, rand(5, 4), rand(7, 4)),
        "VectorQuantizer": (models.VectorQuantizer, 16, 4),
        "MLPEncoder": (models.MLPEncoder, (3, 8, 8), 4, (8,)),
        "resnet_encoder": (models.resnet_encoder, 3, 4, (8, 8), 1, 4),
        "psnr": (metrics.psnr, x, x),
        "ssim": (metrics.ssim, x, x),
        "active_units": (metrics.active_units, rand(9, 4)),
        "evaluate": (metrics.evaluate, vae, [x]),
        "Circles": (Circles, 10, 16, 1),
    }


CALLS = calls()


def wrong(value):
    """Arguments in place of `value`; some of them may be accepted."""
    yield from (None, "word", object(), [], {}, np.zeros(3))
    if isinstance(value, torch.Tensor):
        yield from (value.numpy(), value.bool(), value.half(), value.double(), value.to(torch.complex64))
        yield from (value.to("meta"), value.to_sparse(), value[None], value[0], value.flatten(), torch.tensor(1.0))
        yield value.long() if value.is_floating_point() else value.float()
        for dim in range(value.ndim):
            yield from (value.narrow(dim, 0, 0), value.narrow(dim, 0, 1), torch.cat([value, value], dim))
    elif isinstance(value, (int, float)):
        yield from (-1, 0, 0.5, float("nan"), float("inf"), 10**12, 10**30, 10**400, 10**5000, True, torch.zeros(2))
    elif isinstance(value, (tuple, list)):
        for number, item in enumerate(value):
            yield from (type(value)([*value[:number], other, *value[number + 1 :]]) for other in wrong(item))


def refusal(function, *arguments):
    """What a refused call says; any error but a ValueError is a failure of the test."""
    try:
        function(*arguments)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_argument_is_a_sentence(name):
    function, *arguments = CALLS[name]
    function(*arguments)
    refused = 0
    for place, argument in enumerate(arguments):
        for other in wrong(argument):
            sentence = refusal(function, *arguments[:place], other, *arguments[place + 1 :])
            assert sentence is None or (sentence.endswith(".") and "\n" not in sentence), sentence
            refused += sentence is not None
    assert refused > 5


def test_sizes_of_the_same_name_are_equal():
    @accepts(x=Tensor("B C"), y=Tensor("B 3 ..."), steps=Whole(1), rate=Real(above=0, at_most=1))
    def function(x, y, steps=1, rate=0.5):
        return len(x)

    assert function(torch.zeros(2, 4), torch.zeros(2, 3, 7)) == 2
    assert function(torch.zeros(0, 4), torch.zeros(0, 3)) == 0  # an empty batch is one
    for arguments, sentence in (
        ((torch.zeros(2, 4), torch.zeros(1, 3)), r"^y has the shape \(1, 3\): expected .* because x has B = 2\.$"),
        ((torch.zeros(2, 4), torch.zeros(2, 4)), r"^y has the shape \(2, 4\): expected \(B, 3, \.\.\.\)\.$"),
        ((torch.zeros(2, 0), torch.zeros(2, 3)), r"no side of it may be 0\.$"),
        ((torch.zeros(2, 4), torch.zeros(2, 3), 0), r"^steps is 0: give a whole number of at least 1\.$"),
        (
            (torch.zeros(2, 4), torch.zeros(2, 3), 1, 0.0),
            r"^rate is 0\.0: give a finite number at most 1 and above 0\.$",
        ),
    ):
        with pytest.raises(ArgumentError, match=sentence):
            function(*arguments)
    assert issubclass(ArgumentError, (ValueError, TypeError))


def test_what_does_not_fit_in_memory_is_a_sentence():
    @accepts(size=Whole(1, at_most=2**62))
    def make(size):
        return torch.empty(2).expand(size, 2).clone() if size > 2**61 else torch.empty(size, size)

    for size in (2**25, 2**40, 2**62):  # more than there is, more than can be addressed, more than can be counted
        with pytest.raises(ArgumentError, match=r"^make needs more memory than there is: give less\.$"):
            make(size)
