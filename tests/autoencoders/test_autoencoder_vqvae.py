"""The discrete adapter: `VQModel`'s conventions, `AutoencoderKL`'s, and its own indices."""

import copy
import math

import pytest
import torch
from accelerate import cpu_offload
from diffusers import VQModel

from vae_plugin import AutoencoderVQVAE
from vae_plugin.autoencoders.quantizers import FSQ_LEVELS, QUANTIZERS
from vae_plugin.models import VQVAE
from vae_plugin.models.affine import CannotStandardizeError

TINY = {
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "latent_channels": 4,
    "sample_size": 16,
    "num_vq_embeddings": 256,
    "num_quantizers": 2,
}


def tiny(**changes):
    torch.manual_seed(0)
    return AutoencoderVQVAE(**{**TINY, **changes}).eval()


def images(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(params=QUANTIZERS)
def model(request):
    return tiny(quantizer_type=request.param)


def test_every_way_to_decode_gives_the_same(model):
    x = images(2, 3, 16, 16)
    encoded = model.encode(x)
    assert encoded.latents.shape == model.latent_shape(2) == (2, 4, 8, 8)
    several = (2,) if model.config.quantizer_type == "rvq" else ()
    assert encoded.indices.shape == (2, 8, 8, *several)
    expected = model.decode_indices(encoded.indices)
    assert expected.shape == x.shape
    shape = (2, 8, 8, 4)
    for other in (
        model.decode(encoded.latents).sample,
        model.decode(encoded.latents, return_dict=False, generator=torch.Generator())[0],
        model.decode(encoded.indices).sample,
        model.decode(encoded.indices.flatten(), force_not_quantize=True, shape=shape).sample,
        model.decode(encoded.latent_dist.sample(torch.Generator())).sample,
        model.decode(encoded.latent_dist.mode()).sample,
        model.decode(model.encode(x, return_dict=False)[0]).sample,
        model.decode(model.quantizer.indices_to_codes(encoded.indices), force_not_quantize=True).sample,
        model(x).sample,
        model(x, sample_posterior=True, return_dict=False)[0],
    ):
        torch.testing.assert_close(other, expected, rtol=1e-5, atol=1e-5)
    unquantised = model.decode(encoded.latents, force_not_quantize=True).sample
    assert not torch.allclose(unquantised, expected, atol=1e-3)


def test_latents_are_those_before_quantisation_and_indices_the_nearest_codes():
    model = tiny()
    x = images(2, 3, 16, 16)
    encoded = model.encode(x)
    torch.testing.assert_close(encoded.latents, model.quant_conv(model.encoder(x)))
    tokens = encoded.latents.movedim(1, -1).reshape(-1, 4)
    distances = torch.cdist(tokens.double(), model.quantizer.codebook.detach().double())
    assert torch.equal(encoded.indices.flatten(), distances.argmin(1))


def test_quantize_gives_what_pipelines_of_discrete_latents_look_for():
    model = tiny()
    encoded = model.encode(images(2, 3, 16, 16))
    quantized, loss, (perplexity, _, indices) = model.quantize(encoded.latents)
    assert torch.equal(indices, encoded.indices)
    torch.testing.assert_close(quantized, model.quantizer.indices_to_codes(indices))
    torch.testing.assert_close(loss, 0.25 * (encoded.latents - quantized).square().mean())
    p = torch.bincount(indices.flatten()) / indices.numel()
    expected = torch.distributions.Categorical(p[p > 0]).entropy().exp().item()
    assert perplexity.item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(model.decode(encoded.latents).commit_loss, loss)


def test_the_elbo_is_the_likelihood_less_the_codes(model):
    model = tiny(quantizer_type=model.config.quantizer_type, sigma=0.3)
    x = images(2, 3, 16, 16)
    log_likelihood = torch.distributions.Normal(model(x).sample, 0.3).log_prob(x).flatten(1).sum(1)
    stages = 2 if model.config.quantizer_type == "rvq" else 1
    codes = stages * 64 * math.log(model.config.num_vq_embeddings)
    torch.testing.assert_close(model.elbo(x), log_likelihood - codes, rtol=1e-5, atol=1e-2)


def test_another_image_range_is_another_scale_of_the_same_images(tmp_path):
    signed, unit = tiny(sigma=0.3), tiny(sigma=0.3)
    unit.set_image_range(0, 1)
    unit.save_pretrained(tmp_path)
    x = images(2, 3, 16, 16)
    expected = signed.encode(x)
    for model in (unit, AutoencoderVQVAE.from_pretrained(tmp_path)):
        encoded = model.encode((x + 1) / 2)
        torch.testing.assert_close(encoded.latents, expected.latents, rtol=1e-4, atol=1e-5)
        reconstruction = (signed(x).sample + 1) / 2
        torch.testing.assert_close(model((x + 1) / 2).sample, reconstruction, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.decode_indices(expected.indices), reconstruction, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.elbo((x + 1) / 2), signed.elbo(x), rtol=1e-4, atol=1e-1)
    with pytest.raises(ValueError, match="low must be below high"):
        unit.set_image_range(1, 0)


@pytest.mark.parametrize("channels", [1, 3, 4, 7])
@pytest.mark.parametrize("size", [(16, 16), (15, 17), (8, 24)])
def test_any_size_and_number_of_channels_comes_back_as_it_went_in(channels, size):
    model = tiny(in_channels=channels, block_out_channels=(8, 8, 16), likelihood="laplace")
    x = images(2, channels, *size)
    assert model.encode(x).latents.shape == model.latent_shape(2, *size)
    assert model(x).sample.shape == x.shape
    assert model.elbo(x).shape == (2,)


def test_samples_are_decoded_codes_of_the_uniform_prior(model):
    drawn = []
    decode = model.decode_indices
    model.decode_indices = lambda indices: drawn.append(indices) or decode(indices)
    samples = model.sample(20, torch.Generator().manual_seed(0))
    assert samples.shape == (20, 3, 16, 16)
    torch.testing.assert_close(model.sample(20, torch.Generator().manual_seed(0)), samples)
    counts = torch.bincount(drawn[0].flatten(), minlength=model.codebook_size)
    expected = drawn[0].numel() / model.codebook_size
    assert ((counts - expected).square() / expected).sum() < 1.4 * model.codebook_size  # chi squared


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 1, 16, 16), (1, 2, 3, 16, 16)])
def test_images_of_another_shape_are_refused_in_one_sentence(shape):
    model = tiny()
    for call in (model.encode, model, model.elbo):
        with pytest.raises(ValueError, match=r"expected \(batch, 3, height, width\)"):
            call(torch.zeros(shape))


def test_latents_and_indices_of_another_shape_are_refused_in_one_sentence():
    model = tiny()
    with pytest.raises(ValueError, match=r"expected \(batch, 4, height, width\)"):
        model.decode(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"got indices from 0 to 256: the codebook has 0 to 255"):
        model.decode_indices(torch.tensor([[[0, 256]]]))
    with pytest.raises(ValueError, match=r"expected \(batch, height, width\)"):
        model.decode(torch.zeros(64, dtype=torch.long))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"quantizer_type": "gumbel"}, "quantizer_type is 'gumbel': it must be one of ema, vq, fsq, lfq, rvq, simvq"),
        ({"quantizer_type": "lfq", "num_vq_embeddings": 100}, "needs a power of two"),
        ({"quantizer_type": "fsq", "num_vq_embeddings": 100}, "give the levels themselves, or one of 256"),
        ({"shift_factor": None}, "shift_factor is None"),
        ({"encoder_out_channels": 8, "use_quant_conv": False}, "needs use_quant_conv"),
        ({"norm_num_groups": 5}, "multiples of norm_num_groups"),
        ({"likelihood": "poisson"}, "likelihood is 'poisson'"),
        ({"codebook_distance": "taxicab"}, "distance is 'taxicab'"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        tiny(**options)


@pytest.mark.parametrize("size", list(FSQ_LEVELS))
def test_the_levels_of_the_paper_are_about_as_many_codes_as_it_says(size):
    assert 0.9 < tiny(quantizer_type="fsq", num_vq_embeddings=size).codebook_size / size < 1.1


@pytest.mark.parametrize("save", [{}, {"variant": "fp16"}, {"max_shard_size": "20KB"}])
def test_saved_and_loaded_models_are_equal_with_all_that_training_goes_on_from(model, save, tmp_path):
    VQVAE.forward(model.train(), images(4, 3, 16, 16))
    model.eval().save_pretrained(tmp_path, **save)
    variant = {"variant": "fp16"} if "variant" in save else {}
    loaded = AutoencoderVQVAE.from_pretrained(tmp_path, use_safetensors=True, **variant)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    x = images(2, 3, 16, 16)
    assert torch.equal(loaded.encode(x).indices, model.encode(x).indices)
    assert loaded.config.num_vq_embeddings == model.codebook_size
    for each in (loaded, model):
        torch.manual_seed(0)
        VQVAE.forward(each.train(), x)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_quantiser_stays_in_float32(model, dtype, tmp_path):
    model.save_pretrained(tmp_path)
    expected = {name: value.clone() for name, value in model.quantizer.state_dict().items()}
    loaded = AutoencoderVQVAE.from_pretrained(tmp_path, torch_dtype=dtype)
    cast = copy.deepcopy(model).to(dtype)
    x = images(2, 3, 16, 16)
    for half in (loaded, cast):
        for name, value in half.quantizer.state_dict().items():
            assert torch.equal(value, expected[name]), name
        assert half.dtype == dtype
        reconstruction = half(x.to(dtype)).sample
        assert reconstruction.dtype == half.encode(x.to(dtype)).latents.dtype == dtype
        assert torch.isfinite(reconstruction).all()
        latents = half.encode(x.to(dtype)).latents
        assert torch.equal(half.encode(x.to(dtype)).indices, model.quantizer(latents.float())[1])


def test_slicing_and_tiling(model):
    x = images(2, 3, 40, 56)
    whole = model(x).sample
    model.enable_slicing()
    torch.testing.assert_close(model(x).sample, whole, rtol=1e-4, atol=1e-4)
    model.disable_slicing()
    model.enable_tiling()
    model.tile_sample_min_size, model.tile_latent_min_size = 16, 8
    tiled = model(x).sample
    assert tiled.shape == whole.shape
    assert not torch.equal(tiled, whole)
    model.disable_tiling()
    torch.testing.assert_close(model(x).sample, whole, rtol=1e-4, atol=1e-4)


def test_gradient_checkpointing_changes_nothing_but_memory():
    gradients = []
    for checkpointing in (False, True):
        model = tiny().train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        output, _, losses = VQVAE.forward(model, images(2, 3, 16, 16))
        (output.square().mean() + sum(losses.values())).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value)
    assert gradients[0]["encoder.conv_in.weight"].abs().sum() > 0


def test_offloading_and_layerwise_casting_run(model):
    x = images(2, 3, 16, 16)
    indices = model.encode(x).indices
    expected = model(x).sample
    offloaded = cpu_offload(copy.deepcopy(model), execution_device=torch.device("cpu"))
    torch.testing.assert_close(offloaded(x).sample, expected)
    torch.testing.assert_close(offloaded.decode(indices, force_not_quantize=True, shape=(2, 8, 8, 4)).sample, expected)
    for options in ({"offload_type": "leaf_level"}, {"offload_type": "block_level", "num_blocks_per_group": 1}):
        grouped = copy.deepcopy(model)
        grouped.enable_group_offload(onload_device=torch.device("cpu"), **options)
        torch.testing.assert_close(grouped(x).sample, expected)
        torch.testing.assert_close(grouped.decode_indices(indices), expected)
    cast = copy.deepcopy(model)
    cast.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert all(value.dtype != torch.float8_e4m3fn for value in cast.quantizer.state_dict().values())
    torch.testing.assert_close(cast.decode_indices(indices), expected, rtol=0, atol=0.5)


@pytest.mark.parametrize("kind", ["ema", "fsq", "rvq"])
def test_compiled_calls_are_those_that_are_not(kind):
    torch._dynamo.reset()
    model = tiny(quantizer_type=kind)
    x = images(2, 3, 16, 16)
    encoded = model.encode(x)
    expected = model(x).sample
    decode = torch.compile(model.decode, backend="eager", fullgraph=True)
    torch.testing.assert_close(decode(encoded.latents).sample, expected)
    decode_indices = torch.compile(model.decode_indices, backend="eager", fullgraph=True)
    torch.testing.assert_close(decode_indices(encoded.indices), expected)
    model.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(model(x).sample, expected)


def test_looking_never_changes_the_codebook(model):
    model = tiny(quantizer_type=model.config.quantizer_type, sigma=0.5).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = images(2, 3, 16, 16)
    model(x)
    model.quantize(model.encode(x).latents)
    model.elbo(x)
    model.sample(1)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


STANDARDISED = {
    **{kind: {"quantizer_type": kind} for kind in ("ema", "vq", "rvq", "simvq", "lfq", "fsq")},
    "factorised": {"vq_embed_dim": 2},
    "factorised cosine": {"vq_embed_dim": 2, "codebook_distance": "cosine"},
    "wider network": {"encoder_out_channels": 8, "latent_channels": 6},
}


@pytest.mark.parametrize("options", STANDARDISED.values(), ids=STANDARDISED)
def test_standardised_latents_choose_the_same_codes_and_decode_to_the_same(options):
    model = tiny(**options)
    channels = model.config.latent_channels
    with torch.no_grad():  # latents far from standard
        model.quant_conv.weight.mul_(20)
        model.quant_conv.bias += torch.arange(channels) + 5.0
    if model.config.quantizer_type in ("ema", "vq", "rvq"):
        for _ in range(3):
            VQVAE.forward(model.train(), images(8, 3, 16, 16))
        model.eval()
    x = images(16, 3, 16, 16)
    before, encoded = model(x).sample, model.encode(x)
    z = encoded.latents.transpose(0, 1).flatten(1)
    model.standardize_latents(z.mean(1), z.std(1))
    after = model.encode(x)
    same = (after.indices == encoded.indices).float().mean()
    assert same > 0.999  # the others were as near to two codes as float32 can tell
    standard = after.latents.transpose(0, 1).flatten(1)
    torch.testing.assert_close(standard.mean(1), torch.zeros(channels), rtol=0, atol=1e-3)
    assert standard.square().mean().item() == pytest.approx(1, rel=1e-3)
    if model.quantizer.projects:
        torch.testing.assert_close(standard.std(1), torch.ones(channels), rtol=1e-3, atol=0)
    unchanged = (model(x).sample - before).abs().flatten(1).amax(1) < 1e-3
    assert unchanged.float().mean() > 0.9
    assert (model.config.scaling_factor, model.config.shift_factor) == (1.0, 0.0)
    # Training goes on from codes that are where their statistics say.
    if model.config.quantizer_type == "ema" and not model.quantizer.projects:
        quantizer = model.quantizer
        torch.testing.assert_close(quantizer.sums / quantizer.counts[:, None], quantizer.codebook, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"codebook_distance": "cosine"},
        {"quantizer_type": "fsq", "fsq_levels": (4, 4, 4, 4)},
        {"quantizer_type": "lfq", "num_vq_embeddings": 16},
        {"use_quant_conv": False},
        {"use_post_quant_conv": False},
    ],
)
def test_codes_that_cannot_be_moved_are_left_alone(options):
    model = tiny(**options)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CannotStandardizeError):
        model.standardize_latents(torch.ones(4), 2 * torch.ones(4))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


VQ_MODELS = {
    "plain": {},
    "narrow codes": {"latent_channels": 8, "vq_embed_dim": 3},
    "deeper": {"layers_per_block": 2, "in_channels": 1, "out_channels": 1, "mid_block_add_attention": False},
}


def vq_model(**changes):
    torch.manual_seed(0)
    config = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "latent_channels": 4,
        "num_vq_embeddings": 32,
        "scaling_factor": 0.7,
    }
    model = VQModel(**{**config, **changes}).eval()
    model.quantize.embedding.weight.data.normal_()  # its own initialisation puts all codes next to zero
    return model


@pytest.mark.parametrize("changes", VQ_MODELS.values(), ids=VQ_MODELS)
@pytest.mark.parametrize("kind", ["ema", "vq"])
def test_a_vq_model_is_converted_and_back(changes, kind, tmp_path):
    vq_model(**changes).save_pretrained(tmp_path)
    theirs = VQModel.from_pretrained(tmp_path).eval()
    ours = AutoencoderVQVAE.from_vq_model(theirs, quantizer_type=kind)
    x = images(2, theirs.config.in_channels, 16, 16)
    assert torch.equal(ours.encode(x).latents, theirs.encode(x).latents)
    torch.testing.assert_close(ours(x).sample, theirs(x).sample, rtol=1e-5, atol=1e-5)
    assert ours.config.scaling_factor == 0.7
    back = ours.to_vq_model()
    for name, value in theirs.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name
    back.save_pretrained(tmp_path / "back")
    again = VQModel.from_pretrained(tmp_path / "back").eval()
    torch.testing.assert_close(again(x).sample, theirs(x).sample)
    indices = ours.encode(x).indices
    looked_up = again.decode(indices, force_not_quantize=True, shape=(2, 8, 8, ours.config.latent_channels)).sample
    torch.testing.assert_close(looked_up, ours.decode_indices(indices), rtol=1e-5, atol=1e-5)
    # It can be trained from there: the codes have statistics.
    VQVAE.forward(ours.train(), x)
    assert torch.isfinite(ours.quantizer.codebook).all()
    assert ours.quantizer.codebook.norm(dim=1).max() < 10


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"norm_type": "spatial", "block_out_channels": (32, 32), "norm_num_groups": 32}, "norm_type 'spatial'"),
        ({"down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D")}, "AttnDownEncoderBlock2D"),
        ({"out_channels": 4}, "this VQModel makes 4 channels of 3"),
    ],
)
def test_a_vq_model_with_other_parts_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        AutoencoderVQVAE.from_vq_model(vq_model(**changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"quantizer_type": "fsq"}, "a quantiser but 'ema' or 'vq'"),
        ({"vq_embed_dim": 2}, "a quantiser but 'ema' or 'vq'"),
        ({"codebook_distance": "cosine"}, "a quantiser but 'ema' or 'vq'"),
        ({"likelihood": "bernoulli"}, "a bernoulli likelihood"),
        ({"use_quant_conv": False}, "without 1x1 convolutions"),
        ({"shift_factor": 0.1}, "a shift_factor"),
    ],
)
def test_what_a_vq_model_cannot_have_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        tiny(**changes).to_vq_model()
