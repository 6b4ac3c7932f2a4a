"""Statistics of the latents folded into the weights: what a denoiser sees by its own factors, and images, stay."""

import json

import pytest
import torch
from diffusers import AutoencoderKL

from support.tiny_diffusers import tiny
from support.tiny_exports import images, kl, vae, vqvae
from vae_plugin.autoencoders import adapt
from vae_plugin.commands import export
from vae_plugin.errors import UserError
from vae_plugin.export.diffusers_folder import plain
from vae_plugin.export.factors import with_factors
from vae_plugin.options import parse

SDXL, FLUX = (0.13025, 0.0), (0.3611, 0.1159)
PER_CHANNEL = {"latents_mean": [0.1, -0.4, 2.0, 0.0], "latents_std": [1.0, 0.2, 3.0, 0.7], "scaling_factor": 0.5}
LAST = {"use_post_quant_conv": False}
MODELS = {
    "scaled": lambda: kl(scaling_factor=0.7),
    "shifted": lambda: kl(scaling_factor=0.7, shift_factor=0.1),
    "per channel": lambda: kl(**PER_CHANNEL),
    "no convolution before": lambda: kl(scaling_factor=0.7, shift_factor=0.1, use_quant_conv=False),
    "ours": vae,
    "ours, reflected": lambda: reflected(vae(use_post_quant_conv=False)),
}


def reflected(model):
    adapt(model).set_padding_mode("reflect")
    return model


def check(model, factors):
    """In float64, where nothing but the formula decides. Returns what the new model's config says."""
    old = plain(model.double())
    folded, _ = with_factors(adapt(model), *factors)
    new, (scale, shift), x = folded.model, factors, images().double()
    assert type(new) is AutoencoderKL
    with torch.no_grad():
        q, p = old.encode(x).latent_dist, new.encode(x).latent_dist
        seen, further = (adapt(old).pipeline_latents(z) for z in (q.mean, q.mean + q.std))
        torch.testing.assert_close((p.mean - shift) * scale, seen, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(p.std * scale, further - seen, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(new.decode(p.mean).sample, old.decode(q.mean).sample, rtol=1e-8, atol=1e-8)
    return new.config


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("factors", [SDXL, FLUX], ids=["SDXL", "FLUX"])
def test_a_denoiser_sees_the_same_latents_and_images_stay(name, factors):
    config = check(MODELS[name](), factors)
    assert (config.scaling_factor, config.shift_factor) == factors
    assert config.latents_mean is config.latents_std is None


def test_a_scale_alone_needs_no_1x1_convolution():
    check(kl(scaling_factor=0.7, **LAST), SDXL)
    check(kl(latents_mean=[0.0] * 4, latents_std=PER_CHANNEL["latents_std"], **LAST), SDXL)


def test_a_shift_without_a_1x1_convolution_is_refused_with_the_one_that_is_none():
    model = kl(scaling_factor=0.7, shift_factor=0.1, **LAST)
    with pytest.raises(UserError, match=r"--shift_factor 0 would .* pads them with zeros.*give --shift_factor 0\.\d+"):
        with_factors(adapt(model), *SDXL)
    stays = 0.1 * 0.7 / SDXL[0]
    check(model, (SDXL[0], float(f"{stays:.9g}")))
    with pytest.raises(UserError, match="no --shift_factor is right for all channels"):
        with_factors(adapt(kl(**PER_CHANNEL, **LAST)), *SDXL)


@pytest.mark.parametrize(("scale", "shift"), [(0.5, 2001.0), (1.0, -1e38), (1e3, 1.01)])
def test_a_shift_in_which_the_latents_would_be_lost_is_refused(scale, shift):
    model = adapt(kl(scaling_factor=0.7))
    with pytest.raises(UserError, match="roundings would change the latents: give one of at most"):
        with_factors(model, scale, shift)
    largest = 1000 / scale
    folded, _ = with_factors(model, scale, largest)
    with torch.no_grad():
        before, after = (m.model.encode(images()).latent_dist.mode().double() for m in (model, folded))
        torch.testing.assert_close((after - largest) * scale, 0.7 * before, rtol=0, atol=2e-4)


@pytest.mark.parametrize("word", ["0", "-1", "nan", "inf", "1_0", "9e-4", "1001"])
def test_a_factor_that_is_none_is_refused(word):
    refused = r"--scaling_factor.*(expected a number|must be (at least 0\.001|at most 1000|a finite number))"
    with pytest.raises(UserError, match=refused):
        parse(export.ExportOptions, ["model", "--output", "out", f"--scaling_factor={word}"])


def test_variances_that_were_clamped_stay_as_good_as_none():
    model = kl(scaling_factor=0.7)
    with torch.no_grad():
        model.quant_conv.bias[4:] = -100.0  # a deterministic model
        folded, _ = with_factors(adapt(model), *SDXL)
        assert folded.model.encode(images()).latent_dist.std.max() <= 3.1e-7


def test_the_model_itself_is_not_changed():
    model = kl(scaling_factor=0.7)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with_factors(adapt(model), *SDXL)
    assert model.config.scaling_factor == 0.7
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: tiny("AutoencoderTiny"), "this model is AutoencoderTiny"),
        (lambda: tiny("AutoencoderKLFlux2"), "this model is AutoencoderKLFlux2"),
        (vqvae, "this model is VQModel"),
        (lambda: vae(likelihood="bernoulli", sigma=None), "cannot become a class of diffusers: .*bernoulli likelihood"),
    ],
)
def test_other_models_are_refused(model, message):
    with pytest.raises(UserError, match=message):
        with_factors(adapt(model()), *SDXL)


def test_the_command_writes_both_formats_and_says_what_was_folded(tmp_path, capsys):
    model = vae(scaling_factor=0.7, shift_factor=0.1)
    model.save_pretrained(tmp_path / "model")
    asked = [str(tmp_path / "model"), "--scaling_factor", "0.3611", "--shift_factor", "0.1159", "--output"]
    export.run([*asked, str(tmp_path / "folder")], "export")
    assert (
        "by scaling_factor 0.3611, shift_factor 0.1159 a denoiser sees the latents that it saw by scaling_factor 0.7, "
        "shift_factor 0.1 of the model as it was"
    ) in capsys.readouterr().out
    export.run([*asked, str(tmp_path / "vae.safetensors"), "--format", "single_file"], "export")
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert (config["scaling_factor"], config["shift_factor"]) == FLUX
    folder = AutoencoderKL.from_pretrained(tmp_path / "folder")
    file = AutoencoderKL.from_single_file(str(tmp_path / "vae.safetensors"), config=str(tmp_path / "folder"))
    x = images()
    with torch.no_grad():
        seen = adapt(model).pipeline_latents(model.encode(x).latent_dist.mean)
        for opened in (folder, file):
            z = opened.encode(x).latent_dist.mean
            torch.testing.assert_close((z - 0.1159) * 0.3611, seen, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(opened.decode(z).sample, model(x).sample, rtol=1e-4, atol=1e-4)


def test_factors_are_for_formats_of_plain_models(tmp_path):
    vae().save_pretrained(tmp_path / "model")
    words = [str(tmp_path / "model"), "--output", str(tmp_path / "out")]
    with pytest.raises(UserError, match="--scaling_factor applies only to --format diffusers or single_file"):
        export.run([*words, "--format", "onnx", "--scaling_factor", "1"], "export")
    with pytest.raises(UserError, match="--shift_factor needs --scaling_factor"):
        export.run([*words, "--shift_factor", "0.1"], "export")
