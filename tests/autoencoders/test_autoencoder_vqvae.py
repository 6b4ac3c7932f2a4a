"""The vector-quantised adapter: codes and latents, its bound, and what diffusers asks of an autoencoder."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from vae_plugin import AutoencoderVQVAE
from vae_plugin.models.affine import CannotStandardizeError
from vae_plugin.models.vqvae import VQVAE

TINY = {"block_out_channels": (8, 16), "norm_num_groups": 4, "sample_size": 16, "num_vq_embeddings": 16}
QUANTIZERS = {
    "ema": {},
    "ema_cosine": {"codebook_distance": "cosine"},
    "ema_projected": {"vq_embed_dim": 2},
    "ema_cosine_projected": {"vq_embed_dim": 2, "codebook_distance": "cosine"},
    "vq": {"quantizer_type": "vq"},
    "vq_projected": {"quantizer_type": "vq", "vq_embed_dim": 6, "quantizer_gradient": "rotation"},
    "fsq": {"quantizer_type": "fsq", "fsq_levels": (3, 4, 5, 2)},
    "fsq_projected": {"quantizer_type": "fsq", "num_vq_embeddings": 256},
    "lfq": {"quantizer_type": "lfq"},
    "lfq_projected": {"quantizer_type": "lfq", "num_vq_embeddings": 64},
    "rvq": {"quantizer_type": "rvq", "num_quantizers": 3},
    "rvq_projected": {"quantizer_type": "rvq", "num_quantizers": 2, "vq_embed_dim": 3},
    "simvq": {"quantizer_type": "simvq"},
    "simvq_projected": {"quantizer_type": "simvq", "vq_embed_dim": 3},
}
FIXED_CODES = ("ema_cosine", "fsq", "lfq")  # with no linear layer that could move them
every_quantizer = pytest.mark.parametrize("options", [pytest.param(o, id=name) for name, o in QUANTIZERS.items()])


def tiny(**changes):
    torch.manual_seed(0)
    model = AutoencoderVQVAE(**{**TINY, **changes}).eval()
    with torch.no_grad():  # latents that spread over the codes
        if model.quant_conv is not None:
            model.quant_conv.weight.mul_(3)
    return model


def images(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(state, other):
    return state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)


@pytest.fixture
def model():
    return tiny()


# --- codes and latents ----------------------------------------------------------------------------------------------


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
    places = next((several[name] for name, o in QUANTIZERS.items() if o is options and name in several), ())
    assert encoded.indices.shape == (2, 8, 8, *places)
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
    torch.testing.assert_close(perplexity, torch.exp(torch.special.entr(share).sum()))
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


# --- training -------------------------------------------------------------------------------------------------------


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


# --- what diffusers offers its models -------------------------------------------------------------------------------


def test_slicing_changes_nothing_and_tiling_little(model):
    x = images(2, 3, 40, 56)
    encoded, whole = model.encode(x), model(x).sample
    calls = []
    model.encoder.register_forward_hook(lambda module, inputs, output: calls.append(tuple(inputs[0].shape)))
    model.enable_slicing()
    torch.testing.assert_close(model.encode(x).latents, encoded.latents)
    assert torch.equal(model.encode(x).indices, encoded.indices)
    torch.testing.assert_close(model(x).sample, whole)
    assert set(calls) == {(1, 3, 40, 56)}
    model.disable_slicing()
    model.enable_tiling()
    model.tile_sample_min_size, model.tile_latent_min_size = 32, 16
    calls.clear()
    tiled = model.encode(x)
    assert set(calls) >= {(2, 3, 32, 32)}
    assert tiled.latents.shape == encoded.latents.shape
    assert tiled.indices.shape == encoded.indices.shape
    assert not torch.equal(tiled.latents, encoded.latents)
    # Norms see a tile and not the image: nearly the same, for most places the same code.
    assert (tiled.latents - encoded.latents).std() < 0.3 * encoded.latents.std()
    assert (tiled.indices == encoded.indices).float().mean() > 0.7
    sample = model.decode(encoded.latents).sample
    assert sample.shape == whole.shape
    assert (sample - whole).std() < 0.3 * whole.std()


def test_gradient_checkpointing_changes_nothing_but_memory(model):
    model.train()
    x = images(2, 3, 16, 16)
    begin = copy.deepcopy(model.state_dict())

    def gradients():
        model.load_state_dict(begin)
        model.zero_grad()
        output, _, losses = VQVAE.forward(model, x)
        sum(losses.values(), output.square().mean()).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    expected, codebook = gradients(), model.quantizer.codebook.clone()
    model.enable_gradient_checkpointing()
    assert model.is_gradient_checkpointing
    recomputed = gradients()
    assert recomputed.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(recomputed[name], value)
    assert torch.equal(model.quantizer.codebook, codebook)  # followed the batch once, not once more


@every_quantizer
def test_offloading_and_layerwise_casting(options):
    from accelerate import cpu_offload

    model = tiny(**options)
    x = images(2, 3, 16, 16)
    expected, indices = model(x).sample, model.encode(x).indices

    def check(other):
        torch.testing.assert_close(other(x).sample, expected)
        assert torch.equal(other.encode(x).indices, indices)
        torch.testing.assert_close(other.decode_indices(indices), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(other.decode(indices).sample, expected, rtol=1e-4, atol=1e-5)

    check(cpu_offload(copy.deepcopy(model), execution_device=torch.device("cpu")))
    for group in ({"offload_type": "leaf_level"}, {"offload_type": "block_level", "num_blocks_per_group": 1}):
        grouped = copy.deepcopy(model)
        grouped.enable_group_offload(onload_device=torch.device("cpu"), **group)
        check(grouped)
    for compute in (torch.float32, torch.bfloat16):
        cast = copy.deepcopy(model)
        cast.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=compute)
        assert cast.encoder.mid_block.resnets[0].conv1.weight.dtype == torch.float8_e4m3fn
        assert same(state_of(cast.quantizer), state_of(model.quantizer))
        decoded = cast.decode(indices).sample
        assert decoded.dtype == cast.encode(x.to(compute)).latents.dtype == compute
        torch.testing.assert_close(decoded.float(), expected, rtol=0, atol=0.3)


def test_offload_hooks_fire_for_every_call(model):
    from accelerate.hooks import ModelHook, add_hook_to_module

    class Counter(ModelHook):
        calls = 0

        def pre_forward(self, module, *args, **kwargs):
            Counter.calls += 1
            return args, kwargs

    add_hook_to_module(model, Counter())
    x = images(1, 3, 16, 16)
    encoded = model.encode(x)
    for i, call in enumerate(
        (
            lambda: model.decode(encoded.latents),
            lambda: model.decode_indices(encoded.indices),
            lambda: model.quantize(encoded.latents),
            lambda: model.elbo(x),
            lambda: model.sample(1),
        )
    ):
        call()
        assert Counter.calls >= i + 2


@every_quantizer
def test_compiled_calls_are_those_that_are_not(options):
    model = tiny(**options)
    x = images(2, 3, 16, 16)
    encoded = model.encode(x)
    expected = model.decode(encoded.latents).sample
    encode = torch.compile(model.encode, backend="eager", fullgraph=True)
    decode = torch.compile(model.decode, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.equal(encode(x).indices, encoded.indices)
        torch.testing.assert_close(decode(encoded.latents).sample, expected)
        torch.testing.assert_close(decode(encoded.indices).sample, expected, rtol=1e-4, atol=1e-5)


# --- standardised latents -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latent_channels", [4, 5])
@pytest.mark.parametrize("name", [name for name in QUANTIZERS if name not in FIXED_CODES])
def test_standardised_latents_leave_codes_and_reconstructions(name, latent_channels, tmp_path):
    model = tiny(latent_channels=latent_channels, scaling_factor=0.5, **QUANTIZERS[name])
    with torch.no_grad():  # latents far from standard, near which the codes are
        model.quant_conv.weight.mul_(torch.linspace(1, 4, latent_channels)[:, None, None, None])
        model.quant_conv.bias += torch.arange(latent_channels) + 1.0
    x = images(8, 3, 16, 16)
    VQVAE.forward(model.train(), x)
    model.eval()
    encoded, before = model.encode(x), model(x).sample
    z = encoded.latents.transpose(0, 1).flatten(1)
    model.standardize_latents(z.mean(1), z.std(1))
    after = model.encode(x)
    standard = after.latents.transpose(0, 1).flatten(1)
    torch.testing.assert_close(standard.mean(1), torch.zeros(latent_channels), rtol=0, atol=1e-4)
    torch.testing.assert_close(standard.var(1).mean(), torch.tensor(1.0), rtol=1e-4, atol=0)
    if model.quantizer.projects:
        torch.testing.assert_close(standard.std(1), torch.ones(latent_channels), rtol=1e-4, atol=0)
    # A token halfway between two codes may fall to either, by rounding.
    assert (after.indices != encoded.indices).float().mean() < 0.002
    torch.testing.assert_close(model.decode_indices(encoded.indices), before, rtol=0, atol=1e-3)
    latents = after.latents * model.config.scaling_factor
    torch.testing.assert_close(model.decode(encoded.indices).sample, before, rtol=0, atol=1e-3)
    assert torch.equal(latents, after.latents)
    assert model.config.shift_factor == 0
    assert (model.config.latents_std is None) == (latent_channels != 4)
    torch.testing.assert_close(torch.tensor(model.config.latent_statistics["std"]), z.std(1))
    model.save_pretrained(tmp_path)
    loaded = AutoencoderVQVAE.from_pretrained(tmp_path)
    assert same(loaded.state_dict(), model.state_dict())
    assert loaded.config.latent_statistics == model.config.latent_statistics


@pytest.mark.parametrize("name", ["ema", "ema_projected", "vq", "rvq"])
def test_training_goes_on_from_standardised_latents_as_it_would_have(name):
    model = tiny(**QUANTIZERS[name], dead_code_threshold=0.0)
    x, later = images(8, 3, 16, 16), images(8, 3, 16, 16).flip(2)
    VQVAE.forward(model.train(), x)
    other = copy.deepcopy(model)
    z = model.encode(x).latents.transpose(0, 1).flatten(1)
    other.standardize_latents(z.mean(1), z.std(1))
    for each in (model, other):
        VQVAE.forward(each, later)
        each.eval()
    torch.testing.assert_close(other(later).sample, model(later).sample, rtol=0, atol=2e-2)
    indices = model.encode(later).indices
    torch.testing.assert_close(other.decode_indices(indices), model.decode_indices(indices), rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", FIXED_CODES)
def test_codes_that_cannot_be_moved_are_refused_and_left_as_they_are(name):
    model = tiny(**QUANTIZERS[name])
    before = state_of(model)
    with pytest.raises(CannotStandardizeError):
        model.standardize_latents(torch.ones(4), torch.full((4,), 2.0))
    assert same(before, state_of(model))


@pytest.mark.parametrize("absent", ["use_quant_conv", "use_post_quant_conv"])
def test_standardising_without_1x1_convolutions_is_refused(absent):
    with pytest.raises(CannotStandardizeError, match="need use_quant_conv and use_post_quant_conv"):
        tiny(**{absent: False}).standardize_latents(torch.ones(4), torch.ones(4))


# --- what is refused ------------------------------------------------------------------------------------------------


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
        ({"ema_decay": 1.0}, r"decay \(1.0\)"),
        ({"num_vq_embeddings": 0}, r"codebook_size \(0\)"),
        ({"quantizer_type": "lfq", "num_vq_embeddings": 100}, "a power of two"),
        ({"quantizer_type": "fsq", "num_vq_embeddings": 100}, "no known levels"),
        ({"quantizer_type": "fsq", "fsq_levels": (8, 1)}, "each at least 2"),
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
