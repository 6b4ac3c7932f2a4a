"""The adapter: what diffusers asks of an autoencoder, and what a VAE owes on top of it."""

import copy
import json

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import AttnProcessor, FusedAttnProcessor2_0
from safetensors.torch import load_file

from vae_plugin import AutoencoderVAE, objectives

TINY = {"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4, "sample_size": 16}


def tiny(**changes):
    torch.manual_seed(0)
    return AutoencoderVAE(**{**TINY, **changes}).eval()


def images(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model():
    return tiny()


def test_weights_and_outputs_are_those_of_autoencoder_kl():
    ours = tiny(sigma=1.0)
    kl = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **TINY
    ).eval()
    kl.load_state_dict(ours.state_dict())  # strict: name by name
    x = images(2, 3, 16, 16)
    theirs, mine = kl.encode(x).latent_dist, ours.encode(x).latent_dist
    assert torch.equal(theirs.sample(generator()), mine.sample(generator()))
    torch.testing.assert_close(theirs.kl(), mine.kl())
    z = mine.mode()
    assert torch.equal(kl.decode(z).sample, ours.decode(z).sample)
    assert torch.equal(kl(x).sample, ours(x).sample)
    assert torch.equal(
        kl(x, sample_posterior=True, generator=generator()).sample,
        ours(x, sample_posterior=True, generator=generator()).sample,
    )


def test_slicing_and_tiling_are_those_of_autoencoder_kl():
    ours = tiny(sigma=1.0)
    kl = AutoencoderKL(down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **TINY)
    kl.load_state_dict(ours.state_dict())
    x = images(2, 3, 40, 56)
    whole = ours(x).sample
    ours.enable_slicing()
    torch.testing.assert_close(ours(x).sample, whole)
    ours.disable_slicing()
    for autoencoder in (ours, kl.eval()):
        autoencoder.enable_tiling()
        autoencoder.tile_sample_min_size, autoencoder.tile_latent_min_size = 16, 8
    z = kl.encode(x).latent_dist.mode()
    assert torch.equal(ours.encode(x).latent_dist.mode(), z)
    assert torch.equal(ours.decode(z).sample, kl.decode(z).sample)
    assert not torch.equal(ours.decode(z).sample, whole)


@pytest.mark.parametrize("channels", [1, 3, 4, 7])
@pytest.mark.parametrize("size", [(16, 16), (15, 17), (8, 24)])
def test_any_size_and_number_of_channels_comes_back_as_it_went_in(channels, size):
    model = tiny(in_channels=channels, block_out_channels=(8, 8, 16), likelihood="laplace")
    x = images(2, channels, *size)
    z = model.encode(x).latent_dist.sample(generator())
    assert z.shape == model.latent_shape(2, *size)
    assert model(x).sample.shape == x.shape
    assert model.elbo(x, generator()).shape == (2,)
    assert model.sample(3, generator()).shape == (3, channels, 16, 16)


@pytest.mark.parametrize(
    "options",
    [
        {"block_out_channels": (8,) * 5},
        {"network": "mlp", "hidden_sizes": (32,)},
        {"network": "mlp", "hidden_sizes": (), "sample_size": (16, 16), "likelihood": "logistic_mixture"},
    ],
)
def test_one_by_one_latents(options):
    model = tiny(**options)
    x = images(2, 3, 16, 16)
    assert model.encode(x).latent_dist.mode().shape == (2, 4, 1, 1)
    assert model(x).sample.shape == x.shape
    assert model.sample(2).shape == x.shape
    # The latent says something of the image.
    assert not torch.equal(model.encode(x).latent_dist.mode()[0], model.encode(x).latent_dist.mode()[1])


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "laplace", "logistic_mixture"])
def test_every_likelihood_decodes_to_images_and_bounds_the_evidence(likelihood):
    model = tiny(likelihood=likelihood, num_mixtures=3, sigma=0.5)
    x = images(3, 3, 16, 16)
    assert model.decode(torch.randn(2, 4, 8, 8)).sample.shape == (2, 3, 16, 16)
    elbos = torch.stack([model.elbo(x, generator(i)) for i in range(40)])
    bound = model.log_likelihood(x, num_samples=40, generator=generator())
    assert bound.shape == (3,)
    assert (bound > elbos.mean(0)).all()


def test_elbo_is_the_sum_of_terms_computed_with_torch_alone():
    model = tiny(sigma=0.3)
    x = images(2, 3, 16, 16)
    q = model.encode(x).latent_dist
    z = q.sample(generator())
    log_likelihood = torch.distributions.Normal(model.decode(z).sample, 0.3).log_prob(x).flatten(1).sum(1)
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(q.mean, q.std), normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(model.elbo(x, generator()), log_likelihood - kl)


def test_log_likelihood_holds_no_graph_and_no_more_memory_for_more_samples(model, monkeypatch):
    monkeypatch.setattr(objectives, "NUMBERS_PER_PASS", 3 * 2 * 3 * 16 * 16)  # of three samples
    shapes = []
    model.decoder.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(inputs[0].shape)))
    assert not model.log_likelihood(images(2, 3, 16, 16), 12).requires_grad
    assert shapes == [(3 * 2, 4, 8, 8)] * 4


def test_the_bound_leaves_the_sigma_alone_in_training_mode_too():
    model = tiny().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.log_likelihood(images(2, 3, 16, 16), 3)
    assert model.likelihood.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 1, 16, 16), (2, 4, 16, 16), (1, 2, 3, 16, 16)])
def test_images_of_another_shape_are_refused_in_one_sentence(model, shape):
    for call in (model.encode, model, model.elbo):
        with pytest.raises(ValueError, match=r"expected \(batch, 3, height, width\)"):
            call(torch.zeros(shape))


def test_latents_of_another_shape_are_refused_in_one_sentence(model):
    for shape in ((4, 8, 8), (1, 3, 8, 8)):
        with pytest.raises(ValueError, match=r"expected \(batch, 4, height, width\)"):
            model.decode(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"decodes \(batch, 4, 1, 1\)"):
        tiny(network="mlp").decode(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match="images of exactly 16x16"):
        tiny(network="mlp").encode(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"likelihood": "poisson"}, "likelihood is 'poisson'"),
        ({"network": "transformer"}, "network is 'transformer'"),
        ({"sigma": "best"}, "noise scale is 'best'"),
        ({"shift_factor": None}, "shift_factor is None"),
        ({"out_channels": 5}, "out_channels is 5"),
        ({"norm_num_groups": 5}, "multiples of norm_num_groups"),
        ({"sample_size": 2, "norm_num_groups": 16, "block_out_channels": (16, 16)}, "1x1 latents"),
        ({"encoder_block_out_channels": (4, 4)}, "another name of block_out_channels"),
        ({"up_block_types": ("UpDecoderBlock2D",)}, "up_block_types is UpDecoderBlock2D: it follows from"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        tiny(**options)


@pytest.mark.parametrize("options", [{}, {"likelihood": "logistic_mixture"}, {"network": "mlp"}, {"sigma": "learned"}])
@pytest.mark.parametrize("save", [{}, {"variant": "fp16"}, {"max_shard_size": "20KB"}])
def test_saved_and_loaded_models_are_equal(tmp_path, options, save):
    model = tiny(**options)
    model.save_pretrained(tmp_path, **save)
    loaded = AutoencoderVAE.from_pretrained(
        tmp_path, use_safetensors=True, **({"variant": "fp16"} if "variant" in save else {})
    )
    assert loaded.config.items() >= {"shift_factor": 0.0, "encoder_block_out_channels": [8, 16]}.items()
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    x = images(2, 3, 16, 16)
    assert torch.equal(loaded(x).sample, model(x).sample)
    if "max_shard_size" in save:
        assert len(list(tmp_path.glob("*-of-*.safetensors"))) > 1


def test_the_running_sigma_is_in_the_weights(tmp_path):
    model = tiny().train()
    x = images(2, 3, 16, 16)
    model.likelihood.log_prob(x, x + 0.25)
    model.save_pretrained(tmp_path)
    assert "likelihood.scale.log_scale" in load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    loaded = AutoencoderVAE.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.likelihood.scale.current(), torch.tensor(0.25))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(model, dtype, tmp_path):
    x = images(2, 3, 16, 16)
    expected = model(x).sample
    half = copy.deepcopy(model).to(dtype)
    reconstruction = half(x.to(dtype)).sample
    assert reconstruction.dtype == dtype
    torch.testing.assert_close(reconstruction.float(), expected, rtol=0, atol=0.1)
    assert torch.isfinite(half.elbo(x.to(dtype))).all()
    assert half.elbo(x.to(dtype)).dtype == torch.float32
    model.save_pretrained(tmp_path)
    loaded = AutoencoderVAE.from_pretrained(tmp_path, torch_dtype=dtype)
    assert torch.equal(loaded(x.to(dtype)).sample, reconstruction)


def test_autocast_keeps_the_posterior_in_float32(model):
    x = images(2, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        q = model.encode(x).latent_dist
        elbo = model.elbo(x, generator())
    assert q.mean.dtype == q.kl().dtype == q.sample().dtype == elbo.dtype == torch.float32
    torch.testing.assert_close(elbo, model.elbo(x, generator()), rtol=0.05, atol=1.0)


def test_gradient_checkpointing_changes_nothing_but_memory(model):
    x = images(2, 3, 16, 16)

    def gradient():
        model.zero_grad()
        model.train()
        model(x).sample.square().mean().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    expected = gradient()
    model.enable_gradient_checkpointing()
    assert model.is_gradient_checkpointing
    recomputed = gradient()
    for name, value in expected.items():
        torch.testing.assert_close(recomputed[name], value)


def test_attention_processors_can_be_changed_and_set_back(model):
    x = images(2, 3, 16, 16)
    expected = model(x).sample
    model.set_attn_processor(AttnProcessor())
    assert {type(p) for p in model.attn_processors.values()} == {AttnProcessor}
    torch.testing.assert_close(model(x).sample, expected)
    model.set_default_attn_processor()
    torch.testing.assert_close(model(x).sample, expected)
    model.unfuse_qkv_projections()  # of what was never fused
    model.fuse_qkv_projections()
    assert {type(p) for p in model.attn_processors.values()} == {FusedAttnProcessor2_0}
    torch.testing.assert_close(model(x).sample, expected)
    model.unfuse_qkv_projections()
    assert FusedAttnProcessor2_0 not in {type(p) for p in model.attn_processors.values()}


def test_an_mlp_has_no_gradient_checkpointing_to_enable():
    model = tiny(network="mlp")
    with pytest.raises(ValueError, match="does not support gradient checkpointing"):
        model.enable_gradient_checkpointing()
    model.disable_gradient_checkpointing()


def test_offload_hooks_fire_for_encode_and_decode(model):
    from accelerate.hooks import ModelHook, add_hook_to_module

    class Counter(ModelHook):
        calls = 0

        def pre_forward(self, module, *args, **kwargs):
            Counter.calls += 1
            return args, kwargs

    add_hook_to_module(model, Counter())
    z = model.encode(images(1, 3, 16, 16)).latent_dist.mode()
    model.decode(z)
    model.elbo(images(1, 3, 16, 16))
    model.sample(1)
    assert Counter.calls == 4


def test_sequential_offload_group_offload_and_layerwise_casting_run(model):
    from accelerate import cpu_offload

    x = images(2, 3, 16, 16)
    expected = model(x).sample
    offloaded = cpu_offload(copy.deepcopy(model), execution_device=torch.device("cpu"))
    torch.testing.assert_close(offloaded(x).sample, expected)
    torch.testing.assert_close(offloaded.sample(2, generator()), model.sample(2, generator()))
    for options in ({"offload_type": "leaf_level"}, {"offload_type": "block_level", "num_blocks_per_group": 1}):
        grouped = copy.deepcopy(model)
        grouped.enable_group_offload(onload_device=torch.device("cpu"), **options)
        torch.testing.assert_close(grouped(x).sample, expected)
    cast = copy.deepcopy(model)
    cast.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    torch.testing.assert_close(cast(x).sample, expected, rtol=0, atol=0.5)


@pytest.mark.slow
@pytest.mark.slow
def test_compiled_calls_are_those_that_are_not(model):
    x = images(2, 3, 16, 16)
    z = model.encode(x).latent_dist.mode()
    expected = model(x).sample, model.decode(z).sample
    model.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(model(x).sample, expected[0])
    decode = torch.compile(model.decode, backend="eager", fullgraph=True)
    torch.testing.assert_close(decode(z).sample, expected[1])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"latent_channels": 6},
        {"use_quant_conv": False},
        {"network": "mlp", "hidden_sizes": (16,)},
        {"block_out_channels": (8,) * 5},
    ],
)
def test_standardised_latents_have_mean_zero_and_variance_one_and_decode_to_the_same(options, tmp_path):
    model = tiny(**{**options, "sigma": 0.5})
    channels = model.config.latent_channels
    with torch.no_grad():  # latents far from standard
        row = (
            model.encoder.layers[-1] if options.get("network") == "mlp" else model.quant_conv or model.encoder.conv_out
        )
        row.weight[:channels].mul_(20)
        row.bias[:channels] += torch.arange(channels) + 5.0
    x = images(64, 3, 16, 16)
    before, q = model(x).sample, model.encode(x).latent_dist
    z = q.sample(generator()).transpose(0, 1).flatten(1)
    old = copy.deepcopy(model)
    model.standardize_latents(z.mean(1), z.std(1))
    after = model.encode(x).latent_dist
    standard = after.sample(generator()).transpose(0, 1).flatten(1)
    torch.testing.assert_close(standard.mean(1), torch.zeros(channels), rtol=0, atol=1e-4)
    torch.testing.assert_close(standard.std(1), torch.ones(channels), rtol=1e-4, atol=0)
    torch.testing.assert_close(model(x).sample, before, rtol=0, atol=1e-4)
    again, as_before = model.decode(after.sample(generator(7))).sample, old.decode(q.sample(generator(7))).sample
    torch.testing.assert_close(again, as_before, rtol=0, atol=1e-3)
    assert (model.config.scaling_factor, model.config.shift_factor) == (1.0, 0.0)
    assert (model.config.latents_mean is None) == (channels != 4)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    torch.testing.assert_close(torch.tensor(config["latent_statistics"]["mean"]), z.mean(1))
    torch.testing.assert_close(AutoencoderVAE.from_pretrained(tmp_path)(x).sample, before, rtol=0, atol=1e-4)


def test_standardising_does_not_lower_the_elbo_of_what_was_measured():
    model = tiny(sigma=0.5)
    with torch.no_grad():
        model.quant_conv.weight.mul_(5)
        model.quant_conv.bias[:4] += 3
    x = images(32, 3, 16, 16)
    before = model.elbo(x, generator()).mean()
    z = model.encode(x).latent_dist.sample(generator()).transpose(0, 1).flatten(1)
    model.standardize_latents(z.mean(1), z.std(1))
    assert model.elbo(x, generator()).mean() > before


def test_standardising_without_a_1x1_convolution_before_the_decoder_is_refused():
    model = tiny(use_post_quant_conv=False)
    with pytest.raises(ValueError, match="use_post_quant_conv is False"):
        model.standardize_latents(torch.ones(4), torch.ones(4))
