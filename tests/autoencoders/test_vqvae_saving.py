"""The vector-quantised adapter in files and in half precision."""

import copy
import json

import pytest
import torch
from diffusers import VQModel
from safetensors.torch import load_file

from support.tiny_vqvae import every_quantizer, images, same, state_of, tiny
from vae_plugin import AutoencoderVQVAE
from vae_plugin.models.vqvae import VQVAE


@every_quantizer
def test_a_trained_model_comes_back_with_the_statistics_of_its_codebook(options, tmp_path):
    model = tiny(dead_code_threshold=0.9, **options).train()  # so high that most codes are moved in every step
    for seed in range(3):
        VQVAE.forward(model, images(4, 3, 16, 16).roll(seed, 0))
    model.eval().save_pretrained(tmp_path)
    loaded = AutoencoderVQVAE.from_pretrained(tmp_path, use_safetensors=True)
    assert same(loaded.state_dict(), model.state_dict())
    assert set(load_file(tmp_path / "diffusion_pytorch_model.safetensors")) == set(model.state_dict())
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["shift_factor"] == 0.0
    assert config["encoder_block_out_channels"] == [8, 16]
    assert config["num_vq_embeddings"] == model.codebook_size
    assert config["vq_embed_dim"] == model.quantizer.code_dim
    x = images(2, 3, 16, 16)
    assert torch.equal(loaded.encode(x).indices, model.encode(x).indices)
    torch.testing.assert_close(loaded(x).sample, model(x).sample)
    # Training goes on as if it had not been stopped.
    for each in (model, loaded):
        VQVAE.forward(each.train(), x)
    for name, value in model.quantizer.state_dict().items():
        torch.testing.assert_close(loaded.quantizer.state_dict()[name], value, msg=name)


@pytest.mark.parametrize("channels", [(8,), (8, 16)])
def test_vq_model_does_not_open_our_folder(channels, tmp_path):
    tiny(block_out_channels=channels).save_pretrained(tmp_path)
    with pytest.raises(TypeError):
        VQModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("save", [{"variant": "fp16"}, {"max_shard_size": "20KB"}])
def test_ways_of_saving(save, tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path, **save)
    files = [path.name for path in tmp_path.iterdir()]
    if "variant" in save:
        assert "diffusion_pytorch_model.fp16.safetensors" in files
    if "max_shard_size" in save:
        assert sum("-of-" in name for name in files) > 1
    loaded = AutoencoderVQVAE.from_pretrained(tmp_path, variant=save.get("variant"))
    assert same(loaded.state_dict(), model.state_dict())


@every_quantizer
@pytest.mark.parametrize("dtype", [torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
def test_the_quantiser_stays_in_float32_however_the_model_is_cast(options, dtype, tmp_path):
    model = tiny(**options)
    with torch.no_grad():  # numbers that half precision does not have
        for parameter in model.quantizer.parameters():
            parameter.mul_(1 + 2**-13)
    expected = state_of(model.quantizer)
    x = images(2, 3, 16, 16)
    model.save_pretrained(tmp_path / "float32")
    short = "half" if dtype == torch.float16 else "bfloat16"
    cast = {
        "to": copy.deepcopy(model).to(dtype),
        "to with a device": copy.deepcopy(model).to("cpu", dtype),
        "short": getattr(copy.deepcopy(model), short)(),
        "loaded": AutoencoderVQVAE.from_pretrained(tmp_path / "float32", torch_dtype=dtype),
    }
    cast["to"].save_pretrained(tmp_path / "cast")
    cast["saved and loaded"] = AutoencoderVQVAE.from_pretrained(tmp_path / "cast", torch_dtype=dtype)
    indices = model.encode(x).indices
    image = model.decode_indices(indices)
    for how, half in cast.items():
        assert same(state_of(half.quantizer), expected), how
        assert half.dtype == half.encoder.conv_in.weight.dtype == dtype, how
        encoded = half.encode(x.to(dtype))
        assert encoded.latents.dtype == half(x.to(dtype)).sample.dtype == dtype, how
        assert half.decode(indices).sample.dtype == half.decode_indices(indices).dtype == dtype, how
        assert (encoded.indices == indices).float().mean() > 0.9, how
        torch.testing.assert_close(half.decode(indices).sample.float(), image, rtol=0, atol=0.1)
        elbo = half.elbo(x.to(dtype))
        assert elbo.dtype == torch.float32
        assert torch.isfinite(elbo).all()
        assert half.float().dtype == torch.float32


def test_autocast_leaves_latents_their_precision_and_codes_float32():
    model = tiny()
    x = images(2, 3, 16, 16)
    expected = model.encode(x).indices
    with torch.autocast("cpu", torch.bfloat16):
        encoded = model.encode(x)
        quantized, _, _ = model.quantize(encoded.latents.float())
        elbo = model.elbo(x)
    assert quantized.dtype == elbo.dtype == torch.float32
    assert torch.isin(quantized.detach().movedim(1, -1).flatten(0, 2), model.quantizer.codebook).all()
    assert (encoded.indices == expected).float().mean() > 0.9
