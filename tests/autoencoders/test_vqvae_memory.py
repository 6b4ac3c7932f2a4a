"""What diffusers offers its models for less memory and more speed, with the vector-quantised adapter."""

import copy
import logging

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from support.tiny_vqvae import QUANTIZERS, every_quantizer, generator, images, same, state_of, tiny
from vae_plugin import AutoencoderVQVAE
from vae_plugin.models.vqvae import VQVAE


@pytest.fixture
def model():
    return tiny()


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]


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
    # Norms see a tile and not the image: nearly the same, for most positions the same code.
    assert correlation(tiled.latents, encoded.latents) > 0.9
    assert (tiled.indices == encoded.indices).float().mean() > 0.7
    sample = model.decode(encoded.latents).sample
    assert sample.shape == whole.shape
    assert not torch.equal(sample, whole)
    assert correlation(sample, whole) > 0.9


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
        torch.testing.assert_close(other.sample(2, generator()), model.sample(2, generator()))

    check(cpu_offload(copy.deepcopy(model), execution_device=torch.device("cpu")))
    for group in ({"offload_type": "leaf_level"}, {"offload_type": "block_level", "num_blocks_per_group": 1}):
        grouped = copy.deepcopy(model)
        grouped.enable_group_offload(onload_device=torch.device("cpu"), **group)
        # What waits for the forward of the whole would stay behind: encode and decode do not go through it.
        hooks = getattr(grouped, "_diffusers_hook", None)
        assert hooks is None or hooks.get_hook("group_offloading") is None
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ema_projected", "rvq", "fsq"])
def test_compiled_calls_are_those_that_are_not(name):
    torch.compiler.reset()
    model = tiny(**QUANTIZERS[name], block_out_channels=(8,))
    x = images(2, 3, 8, 8)
    with torch.no_grad():
        encoded = model.encode(x)
        expected = model.decode(encoded.latents).sample
        encode = torch.compile(model.encode, backend="eager", fullgraph=True)
        decode = torch.compile(model.decode, backend="eager", fullgraph=True)
        assert torch.equal(encode(x).indices, encoded.indices)
        torch.testing.assert_close(decode(encoded.latents).sample, expected)
        torch.testing.assert_close(decode(encoded.indices).sample, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ema", "rvq", "simvq_projected"])
def test_a_dynamic_graph_serves_every_number_of_positions(name):
    torch.compiler.reset()
    quantizer = tiny(**QUANTIZERS[name]).quantizer
    graphs = CompileCounter()
    compiled = torch.compile(quantizer, backend=graphs, dynamic=True, fullgraph=True)
    for side in (5, 8, 40, 70):  # more than the 1024 vectors of a tile, too
        z = images(1, 4, side, side)
        assert torch.equal(compiled(z)[1], quantizer(z)[1])
    assert graphs.frame_count == 1


@every_quantizer
def test_a_model_on_disk_has_its_codes_and_its_sigma(options, tmp_path):
    model = tiny(**options)
    x = images(2, 3, 16, 16)
    VQVAE.forward(model.train(), x)  # sigma moves, and a new code book is filled
    model.eval().save_pretrained(tmp_path / "model")
    loaded = AutoencoderVQVAE.from_pretrained(
        tmp_path / "model",
        device_map={**dict.fromkeys(dict(model.named_children()), "disk"), "encoder": "cpu"},
        offload_folder=tmp_path / "off",
    )
    assert torch.equal(loaded.encode(x).indices, model.encode(x).indices)
    torch.testing.assert_close(loaded(x).sample, model(x).sample)
    torch.testing.assert_close(loaded.elbo(x), model.elbo(x))


def test_low_cpu_mem_usage_false_keeps_the_quantiser_in_float32(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path)
    loaded = AutoencoderVQVAE.from_pretrained(tmp_path, low_cpu_mem_usage=False, torch_dtype=torch.float16)
    assert loaded.dtype == torch.float16
    assert torch.equal(loaded.quantizer.codebook, model.quantizer.codebook)


def test_a_cast_does_not_warn_of_what_it_keeps(caplog):
    logging.getLogger("diffusers").addHandler(caplog.handler)
    try:
        model = tiny().to(torch.bfloat16)
    finally:
        logging.getLogger("diffusers").removeHandler(caplog.handler)
    assert model.quantizer.codebook.dtype == torch.float32
    assert "float32" not in caplog.text
