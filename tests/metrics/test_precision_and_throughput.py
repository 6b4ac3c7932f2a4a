"""What half precision loses, and how fast a model is."""

import pytest
import torch

from support.tiny_diffusers import tiny
from vae_plugin import metrics
from vae_plugin.autoencoders import adapt

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_loss_of_bf16_is_that_of_the_converted_model(capsys):
    model = tiny("AutoencoderKL")
    measured = metrics.evaluate(model, IMAGES.split(3), measures=[metrics.LowPrecision("bf16")])
    with torch.no_grad():
        low = tiny("AutoencoderKL").to(torch.bfloat16)(IMAGES.bfloat16()).sample.float()
        values = metrics.psnr(low, model(IMAGES).sample)
    assert model.dtype == torch.float32
    assert measured["bf16_psnr"] == pytest.approx(values.mean().item(), abs=0.1)
    assert measured["bf16_psnr_worst"] == pytest.approx(values.min().item(), abs=0.1)
    assert measured["bf16_not_finite"] == 0
    assert not capsys.readouterr().err


def test_what_overflows_in_fp16_is_named_and_absent(capsys):
    model = tiny("AutoencoderKL")
    with torch.no_grad():
        model.decoder.conv_out.weight.mul_(1e6)
        model.decoder.conv_out.bias.fill_(1e6)
    measured = metrics.evaluate(model, [IMAGES], measures=[metrics.LowPrecision("fp16")])
    assert measured["fp16_not_finite"] == 4
    assert "fp16_psnr" not in measured
    assert "in fp16 the reconstruction of 4 of 4 images is NaN or infinite: use bf16" in capsys.readouterr().err


def test_throughput_has_rates_and_the_memory_of_weights_and_more():
    adapter = adapt(tiny("AutoencoderKL"))
    found = metrics.throughput(adapter, 16, 24, batch_size=2)
    weights = 4 * adapter.num_parameters / 2**20
    for name in ("encode", "decode"):
        assert found[f"{name}_images_per_second"] > 0
        assert found[f"{name}_memory_mib"] > weights
    assert found["throughput_batch_size"] == 2
