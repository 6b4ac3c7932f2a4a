"""Codes, latents and the bound of the vector-quantised adapter, and what it refuses."""

import math

import pytest
import torch
import torch.nn.functional as F

from support.tiny_vqvae import QUANTIZERS, every_quantizer, generator, images, same, state_of, tiny
from vae_plugin.models.vqvae import VQVAE


@pytest.fixture
def model():
    return tiny()


def test_latents_are_the_encoders_and_indices_those_of_the_nearest_codes(model):
    x = images(2, 3, 16, 16)
    encoded = model.encode(x)
    assert torch.equal(encoded.latents, model.quant_conv(model.encoder(x)))
    distances = (encoded.latents[:, None] - model.quantizer.codebook[None, :, :, None, None]).square().sum(2)
    assert torch.equal(encoded.indices, distances.argmin(1))
    assert len(encoded.indices.unique()) > 3
    (latents,) = model.encode(x, return_dict=False)
    assert torch.equal(latents, encoded.latents)
    assert torch.equal(encoded.latent_dist.mode(), latents)
    assert torch.equal(encoded.latent_dist.sample(generator()), latents)


@every_quantizer
def test_every_way_from_codes_to_an_image_is_the_same(options):
    model = tiny(**options)
    x = images(2, 3, 16, 16)
    encoded = model.encode(x)
    several = {"rvq": (3,), "rvq_projected": (2,)}
    stages = next((several[name] for name, o in QUANTIZERS.items() if o is options and name in several), ())
    assert encoded.indices.shape == (2, 8, 8, *stages)
    assert encoded.indices.dtype == torch.int64
    assert 0 <= encoded.indices.min() < encoded.indices.max() < model.codebook_size == model.config.num_vq_embeddings
    expected = model.decode(encoded.latents).sample
    assert expected.shape == x.shape
    flat = encoded.indices.flatten()
    shape = (2, 8, 8, model.config.latent_channels)
    for image in (
        model.decode_indices(encoded.indices),
        model.decode(encoded.indices).sample,
        model.decode(encoded.indices.int(), force_not_quantize=True, shape=shape).sample,
        model.decode(flat, force_not_quantize=True, shape=shape, generator=generator()).sample,
        model.decode(flat, shape=shape[:3], return_dict=False)[0],
        model(x).sample,
        model(x, sample_posterior=True, generator=generator(), return_dict=False)[0],
    ):
        torch.testing.assert_close(image, expected, rtol=1e-4, atol=1e-5)
    quantized, loss, (perplexity, encodings, indices) = model.quantize(encoded.latents)
    assert torch.equal(indices, encoded.indices)
    assert encodings is None
    share = indices.flatten().bincount() / indices.numel()
    torch.testing.assert_close(perplexity, torch.exp(torch.special.entr(share).sum()), check_dtype=False)
    torch.testing.assert_close(model.decode(quantized, force_not_quantize=True).sample, expected, rtol=1e-4, atol=1e-5)
    assert loss.shape == ()
    assert not torch.allclose(model.decode(encoded.latents, force_not_quantize=True).sample, expected, atol=1e-3)


def test_the_losses_are_those_of_the_paper():
    model = tiny(quantizer_type="vq", commitment_weight=0.5)
    z = model.encode(images(2, 3, 16, 16)).latents
    quantized, loss, _ = model.quantize(z)
    torch.testing.assert_close(loss, 1.5 * F.mse_loss(z, quantized))
    _, commit_loss = model.decode(z, return_dict=False)
    torch.testing.assert_close(commit_loss, 0.5 * F.mse_loss(z, quantized))
    assert torch.equal(model.decode(z).commit_loss, commit_loss)
    assert model.decode(z, force_not_quantize=True).commit_loss == 0


def test_samples_are_decoded_uniform_codes(model):
    chosen = []
    lookup = model.quantizer.indices_to_codes
    model.quantizer.indices_to_codes = lambda indices: (chosen.append(indices), lookup(indices))[1]
    image = model.sample(40, generator())
    assert image.shape == (40, 3, 16, 16)
    assert not image.requires_grad
    assert torch.equal(image, model.sample(40, generator()))
    assert not torch.equal(image, model.sample(40, generator(1)))
    counts = chosen[0].flatten().bincount(minlength=16)
    assert counts.sum() == 40 * 8 * 8
    assert (counts - 160).abs().max() < 5 * math.sqrt(160)
    assert tiny(quantizer_type="rvq", sample_size=(15, 18)).sample(2).shape == (2, 3, 15, 18)


@pytest.mark.parametrize("quantizer", ["ema", "lfq", "rvq"])
def test_elbo_is_the_likelihood_less_the_price_of_the_codes(quantizer):
    model = tiny(quantizer_type=quantizer, num_quantizers=3, sigma=0.3)
    x = images(2, 3, 16, 16)
    squares = (x - model(x).sample).square().flatten(1).sum(1)
    log_likelihood = -squares / (2 * 0.3**2) - 3 * 16 * 16 * math.log(0.3 * math.sqrt(2 * math.pi))
    stages = 3 if quantizer == "rvq" else 1
    torch.testing.assert_close(model.elbo(x), log_likelihood - 8 * 8 * stages * math.log(16))


def test_elbo_with_a_laplace_likelihood_of_an_image_with_sides_that_are_no_multiples():
    model = tiny(likelihood="laplace", sigma=0.5)
    x = images(2, 3, 15, 17)
    deviation = (x - model(x).sample).abs().flatten(1).sum(1)
    expected = -deviation / 0.5 - 3 * 15 * 17 * math.log(2 * 0.5) - 8 * 9 * math.log(16)
    torch.testing.assert_close(model.elbo(x), expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(16, 16), (15, 17), (8, 24)])
def test_any_size_and_number_of_channels_comes_back_as_it_went_in(channels, size):
    model = tiny(in_channels=channels, block_out_channels=(8, 8, 16), likelihood="logistic_mixture", num_mixtures=2)
    x = images(2, channels, *size)
    encoded = model.encode(x)
    assert encoded.latents.shape == model.latent_shape(2, *size) == (2, 4, -(-size[0] // 4), -(-size[1] // 4))
    assert model.decode(encoded.latents).sample.shape == (2, channels, *(4 * s for s in encoded.latents.shape[2:]))
    assert model(x).sample.shape == x.shape
    assert model.elbo(x).shape == (2,)


def test_only_the_pass_of_training_moves_the_codebook():
    model = tiny().train()
    x = images(4, 3, 16, 16)
    before = state_of(model.quantizer)
    z = model.encode(x).latents
    model.decode(z)
    model.quantize(z)
    model.posterior(x)
    model.elbo(x)
    model(x)
    model.sample(2)
    assert same(before, state_of(model.quantizer))
    VQVAE.forward(model, x)
    after = state_of(model.quantizer)
    assert {name for name in after if not torch.equal(after[name], before[name])} == set(before)
    VQVAE.forward(model.eval(), x)
    assert same(after, state_of(model.quantizer))


@every_quantizer
def test_the_loss_of_training_reaches_the_encoder(options):
    model = tiny(kmeans_init=False, **options).train()
    x = images(2, 3, 15, 16)
    output, posterior, losses = VQVAE.forward(model, x)
    assert output.shape == x.shape
    assert posterior.kl().shape == (2,)
    sum(losses.values(), output.square().mean()).backward()
    moved = [model.encoder, model.quant_conv, model.post_quant_conv, model.decoder]
    for parameter in [p for module in moved for p in module.parameters()]:
        assert torch.isfinite(parameter.grad).all()
    assert model.encoder.conv_in.weight.grad.abs().sum() > 0
    trained = [name for name, p in model.quantizer.named_parameters() if p.requires_grad]
    assert all(model.quantizer.get_parameter(name).grad.abs().sum() > 0 for name in trained)
    assert ("codebook" in trained) == (options.get("quantizer_type") == "vq")


def test_images_and_latents_of_another_shape_are_refused_in_one_sentence(model):
    for shape in ((3, 16, 16), (2, 1, 16, 16), (1, 2, 3, 16, 16)):
        for call in (model.encode, model, model.elbo):
            with pytest.raises(ValueError, match=r"expected \(batch, 3, height, width\)"):
                call(torch.zeros(shape))
    for shape in ((4, 8, 8), (1, 3, 8, 8)):
        for call in (model.decode, model.quantize, lambda z: model.decode(z, force_not_quantize=True)):
            with pytest.raises(ValueError, match=r"expected \(batch, 4, height, width\)"):
                call(torch.zeros(shape))


def test_indices_of_another_shape_or_outside_the_codebook_are_refused_in_one_sentence(model):
    for call in (model.decode, model.decode_indices):
        with pytest.raises(ValueError, match=r"expected \(batch, height, width\)"):
            call(torch.zeros(64, dtype=torch.long))
        for wrong in (-1, 16):
            with pytest.raises(ValueError, match="the codebook has 0 to 15"):
                call(torch.full((1, 8, 8), wrong))
    with pytest.raises(ValueError, match=r"expected \(batch, height, width, 4\)"):
        tiny(quantizer_type="rvq").decode(torch.zeros(1, 8, 8, dtype=torch.long))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"quantizer_type": "gumbel"}, "quantizer_type is 'gumbel'"),
        ({"codebook_distance": "manhattan"}, "distance is 'manhattan'"),
        ({"quantizer_gradient": "reinforce"}, "gradient is 'reinforce'"),
        ({"ema_decay": 1.0}, r"ema_decay is 1.0: it must be at least 0 and below 1"),
        ({"num_vq_embeddings": 0}, "num_vq_embeddings is 0: it must be at least 1"),
        ({"quantizer_type": "lfq", "num_vq_embeddings": 100}, "a power of two"),
        ({"quantizer_type": "fsq", "num_vq_embeddings": 100}, "no levels are known"),
        ({"quantizer_type": "fsq", "fsq_levels": (8, 1)}, "each between 2 and 1000"),
        ({"quantizer_type": "rvq", "num_quantizers": 1}, "num_quantizers is 1"),
        ({"likelihood": "poisson"}, "likelihood is 'poisson'"),
        ({"sigma": "best"}, "noise scale is 'best'"),
        ({"shift_factor": None}, "shift_factor is None"),
        ({"out_channels": 5}, "out_channels is 5"),
        ({"encoder_out_channels": 8, "use_quant_conv": False}, r"encoder_out_channels \(8\)"),
        ({"encoder_out_channels": 8, "use_post_quant_conv": False}, r"encoder_out_channels \(8\)"),
        ({"sample_size": 2, "norm_num_groups": 16, "block_out_channels": (16, 16)}, "1x1 latents"),
        ({"encoder_block_out_channels": (4, 4)}, "another name of block_out_channels"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        tiny(**options)
