"""`--teacher X --decoder_block_out_channels`: another decoder for latents that stay."""

import json
import re

import diffusers
import pytest
import torch
from diffusers import AutoencoderKLFlux2

from support.runs import assert_same, weights
from support.tiny_diffusers import latents, tiny
from support.tiny_pipelines import TEXT_WIDTH, _sd
from vae_plugin import AutoencoderVAE, finetune
from vae_plugin.errors import UserError
from vae_plugin.metrics.decoding import TensorsHeld

RUN = {
    "resolution": 16,
    "circles_length": 16,
    "circles_hue": True,
    "train_batch_size": 4,
    "max_train_steps": 2,
    "num_validation_images": 3,
    "decoder_block_out_channels": (4, 8),
}
CLASSES = {"AutoencoderKL": AutoencoderVAE, "AutoencoderKLFlux2": AutoencoderKLFlux2, "AutoencoderVAE": AutoencoderVAE}


def teacher(name):
    if name == "AutoencoderVAE":
        torch.manual_seed(0)
        return AutoencoderVAE(block_out_channels=(8, 8), norm_num_groups=4, sample_size=16, scaling_factor=0.3).eval()
    return tiny(name)


def run(out, source, **changes):
    values = {"teacher": str(source), "output_dir": str(out), **RUN, **changes}
    return finetune.train(finetune.options(**{key: value for key, value in values.items() if value != "absent"}))


@pytest.fixture(scope="module", params=CLASSES)
def trained(request, tmp_path_factory):
    """Name of the teacher's class, the teacher, its folder, and that of the result."""
    folder = tmp_path_factory.mktemp("decoder")
    model = teacher(request.param)
    model.save_pretrained(folder / "teacher")
    run(folder / "out", folder / "teacher", use_ema=True, disc_start=1, disc_channels=4, disc_layers=1)
    return request.param, model, folder


def test_the_encoder_is_the_teachers_to_the_bit(trained):
    name, model, folder = trained
    again = CLASSES[name].from_pretrained(folder / "out").eval()  # of plain diffusers, for a Flux2 teacher
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(latents(again, x), latents(model, x))
    before, after = model.state_dict(), weights(folder / "out")
    kept = [key for key in before if key.partition(".")[0] in ("encoder", "quant_conv", "bn")]
    assert kept
    for key in kept:
        assert torch.equal(after[key], before[key]), key
    assert after["decoder.conv_in.weight"].shape[0] == 8
    assert after["decoder.conv_out.weight"].shape[1] == 4
    for field in {
        "scaling_factor",
        "latents_mean",
        "latents_std",
        "sample_size",
        "batch_norm_eps",
    } & model.config.keys():
        assert again.config[field] == model.config[field]


def test_what_is_recorded_beside_the_teacher(trained):
    _, model, folder = trained
    record = json.loads((folder / "out" / "run.json").read_text())
    assert not record["latent_space"]["moved"]
    assert (record["part"], record["base_model"]) == ("decoder", "teacher")
    assert "teacher" not in record
    assert (record["decoder"]["block_out_channels"], record["decoder"]["was"]) == ([4, 8], [8, 8])
    metrics = json.loads((folder / "out" / "metrics.json").read_text())
    assert metrics["base_psnr"] + metrics["psnr_gain"] == pytest.approx(metrics["psnr"])
    assert metrics["psnr_gain_ci95"] > 0
    sizes = {"": weights(folder / "out"), "base_": model.state_dict()}
    for prefix, state in sizes.items():
        count = sum(value.numel() for key, value in state.items() if key.startswith("decoder."))
        assert metrics[f"{prefix}decoder_parameters"] == count
        assert metrics[f"{prefix}decode_memory_mib"] * 2**20 > 4 * count
    assert metrics["decode_memory_mib"] < metrics["base_decode_memory_mib"]
    assert 0 < metrics["decode_time_low"] <= metrics["decode_time_ratio"] <= metrics["decode_time_high"]
    card = (folder / "out" / "README.md").read_text()
    assert re.search(r"# .* with a new decoder for the latents of teacher, trained on", card)
    assert re.search(
        r"The decoder has 4 8 channels at its levels instead of 8 8\. It decodes an image of 16 × 16", card
    )
    assert re.search(r"in [\d.]+ times the time and 0\.\d+ times the memory.* dB of PSNR", card)
    assert (
        f"| weights of the decoder | {metrics['decoder_parameters']:,} | {metrics['base_decoder_parameters']:,} |"
        in card
    )
    assert "It takes the place of the autoencoder in every pipeline" in card
    assert "standard deviation 1 over the training data" not in card


@pytest.mark.parametrize("trained", ["AutoencoderKL"], indirect=True)
def test_the_base_is_measured_as_the_teacher_alone_is(trained):
    _, _, folder = trained
    out = folder / "fine-tune"
    values = {**RUN, "max_train_steps": 1, "pretrained_model_name_or_path": str(folder / "teacher"), "train": "decoder"}
    del values["decoder_block_out_channels"]
    finetune.train(finetune.options(output_dir=str(out), **values))
    one, other = (json.loads((folder / name / "metrics.json").read_text()) for name in ("out", "fine-tune"))
    assert one["base_psnr"] == pytest.approx(other["base_psnr"], abs=1e-5)
    assert one["base_ssim"] == pytest.approx(other["base_ssim"], abs=1e-6)


def test_pipelines_take_it(trained):
    name, _, folder = trained
    vae = CLASSES[name].from_pretrained(folder / "out").eval()
    if name == "AutoencoderKLFlux2":
        torch.manual_seed(0)
        transformer = diffusers.Flux2Transformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=TEXT_WIDTH, timestep_guidance_channels=8, axes_dims_rope=(2, 2, 2, 2),
        )  # fmt: skip
        pipe = diffusers.Flux2Pipeline(
            diffusers.FlowMatchEulerDiscreteScheduler(), vae, text_encoder=None, tokenizer=None, transformer=transformer
        )
        pipe.set_progress_bar_config(disable=True)
        call = {"height": 32, "width": 32, "num_inference_steps": 1, "prompt_embeds": torch.randn(1, 4, TEXT_WIDTH)}
        image = pipe(**call, output_type="np", generator=torch.Generator().manual_seed(0)).images
    else:
        image = _sd(diffusers.StableDiffusionPipeline, lambda side: {"height": side, "width": side}, vae)()
    assert image.shape[-1] == 3
    assert image.std() > 0


def test_a_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(tmp_path):
    tiny("AutoencoderKLFlux2").save_pretrained(tmp_path / "teacher")
    saving = {"checkpointing_steps": 2, "max_train_steps": 4}
    run(tmp_path / "whole", tmp_path / "teacher", **saving)
    (tmp_path / "again" / "checkpoints").mkdir(parents=True)
    (tmp_path / "whole" / "checkpoints" / "step-000002").rename(tmp_path / "again" / "checkpoints" / "step-000002")
    (tmp_path / "again" / "logs").mkdir()
    run(tmp_path / "again", tmp_path / "teacher", resume_from_checkpoint="latest", **saving)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "again"))
    with pytest.raises(UserError, match=r"--decoder_block_out_channels was .* a resumed run must keep it"):
        run(
            tmp_path / "again", tmp_path / "teacher", resume_from_checkpoint="latest", **saving,
            decoder_block_out_channels=(8, 8),
        )  # fmt: skip


def test_a_new_model_of_two_widths(tmp_path):
    widths = {"block_out_channels": (8, 8), "norm_num_groups": 4}
    finetune.train(finetune.options(output_dir=str(tmp_path), **RUN, **widths))
    assert AutoencoderVAE.from_pretrained(tmp_path).decoder.conv_out.in_channels == 4


REFUSED = [
    ({"decoder_block_out_channels": (4,)}, r"is 4: give 2 number\(s\)"),
    ({"decoder_block_out_channels": (4, 6)}, r"multiples of norm_num_groups \(4\)"),
    ({"train": "all"}, "--train all would move the latents"),
    ({"train": "encoder"}, "--train encoder would move the latents"),
    ({"model_type": "tiny"}, "--model_type has no effect with --teacher and --decoder_block_out_channels"),
    ({"model_config": "somewhere"}, "--model_config has no effect with --teacher and --decoder_block_out_channels"),
    ({"in_channels": 1}, "--in_channels is 1, and --teacher .* has 3: leave it out"),
    ({"block_out_channels": (4, 4)}, "--block_out_channels 4 4 conflicts with .*, which has 8 8"),
    ({"latent_channels": 8}, "--latent_channels has no effect with --teacher"),
    ({"kl_scale": 1.0}, "--kl_scale has no effect with"),
    ({"latent_scale": 1.0}, "--latent_scale has no effect with"),
    ({"lora_rank": 2}, "--lora_rank needs --pretrained_model_name_or_path"),
    ({"beta": 2.0}, "--beta"),
    ({"reconstruction_loss": "elbo"}, "needs a model with a likelihood"),
    (
        {"teacher": "absent", "pretrained_model_name_or_path": "<teacher>"},
        "give it as --teacher, whose encoder is kept",
    ),
    (
        {"teacher": "absent", "model_type": "vqvae"},
        "--decoder_block_out_channels has no effect with --model_type vqvae",
    ),
    ({"teacher": "<tiny>"}, "AutoencoderTiny has no decoder of other widths. Give a --teacher of another class"),
    ({"decoder_block_out_channels": "absent"}, "For a smaller decoder of its latents, .* --decoder_block_out_channels"),
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    tiny("AutoencoderKLFlux2").save_pretrained(folder / "teacher")
    tiny("AutoencoderTiny").save_pretrained(folder / "tiny")
    return folder


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=[re.sub(r"\W+", " ", words)[:40] for _, words in REFUSED])
def test_what_does_not_go_together_is_refused(changes, words, sources, tmp_path):
    changes = {k: str(sources / v[1:-1]) if isinstance(v, str) and v[0] == "<" else v for k, v in changes.items()}
    with pytest.raises(UserError, match=words):
        run(tmp_path / "out", **{"source": sources / "teacher", **changes})


def test_tensors_are_counted_while_somebody_holds_them():
    base = torch.zeros(1000)
    with TensorsHeld() as held:
        one = base + 1  # 4,000 bytes
        one.relu_()
        view = one.view(10, 100).t()
        other = view + 1  # 4,000 more
        del one, view
        third = torch.zeros(500)  # 2,000 in the place of the first
        del other, third
    assert (held.most, held.now) == (8000, 0)
