"""Fine-tuning the autoencoders of diffusers: each stays of its class, and only what is to change does."""

import json
import re
import subprocess
import sys

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, Flux2Pipeline
from PIL import Image
from safetensors.torch import load_file

from support.runs import assert_same, options, weights
from support.tiny_diffusers import BY_NAME, latents, reconstruction, tiny
from vae_plugin import AutoencoderTinyFlux2, finetune
from vae_plugin.autoencoders import adapt, load_autoencoder
from vae_plugin.datasets import load_images
from vae_plugin.errors import UserError
from vae_plugin.metrics import evaluate
from vae_plugin.training.losses import DistillationLoss, ImageLoss
from vae_plugin.training.statistics import LatentStatistics

GAN = {"disc_start": 2, "disc_channels": 4, "disc_layers": 1, "reconstruction_loss": "l1"}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Images with smooth colours and edges, larger than the crops and not square."""
    folder = tmp_path_factory.mktemp("photographs")
    generator = torch.Generator().manual_seed(0)
    for i in range(40):
        coarse = torch.rand(1, 3, 4, 6, generator=generator)
        image = torch.nn.functional.interpolate(coarse, (24, 36), mode="bilinear")[0]
        image[:, :, 5 + i % 20 :] = 1 - image[:, :, 5 + i % 20 :]
        Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy()).save(folder / f"{i:02d}.png")
    return folder


def tuned(model, tmp_path, photographs, **changes):
    """A short run from `model`, and its folder."""
    source, out = tmp_path / "source", tmp_path / "out"
    model.save_pretrained(source)
    settings = {
        "pretrained_model_name_or_path": str(source),
        "train_data_dir": str(photographs),
        "max_train_steps": 4,
        "learning_rate": 1e-3,
        "num_validation_images": 4,
        "train_batch_size": 4,
    }
    finetune.train(options(out, **{**settings, **changes}))
    return out


PARTED = ("AutoencoderKL", "AutoencoderKLWan")
TYPICAL = (
    "AutoencoderKL",
    "AutoencoderTiny",
    "AutoencoderKLWan",
    "AutoencoderKLHunyuanImage",
    "AutoencoderRAE",
    "VQModel",
)
PARTS = [
    pytest.param(name, part, marks=[pytest.mark.slow] * (name not in TYPICAL or (part != "all" and name not in PARTED)))
    for name in BY_NAME
    for part in ("all", "decoder", "encoder")
]


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_each_class_is_tuned_and_saved_as_itself(name, part, photographs, tmp_path, capsys):
    model = tiny(name)
    if part not in adapt(model).parts:
        with pytest.raises(UserError, match=f"--train {part} cannot be done with {name}.*give --train decoder"):
            tuned(model, tmp_path, photographs, train=part)
        return
    out = tuned(model, tmp_path, photographs, train=part, **GAN)
    assert json.loads((out / "config.json").read_text())["_class_name"] == name
    again = BY_NAME[name].from_pretrained(out, use_safetensors=True).eval()
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(latents(again, x), latents(model, x)) == (part == "decoder")
    before = model.state_dict()
    changed = {key.split(".")[0] for key, value in again.state_dict().items() if not torch.equal(value, before[key])}
    assert ("decoder" in changed) == (part != "encoder")
    assert ("encoder" in changed) == (part != "decoder")
    if part != "all":  # a denoiser made for these latents goes on working
        assert again.config.get("scaling_factor") == model.config.get("scaling_factor")
    space = json.loads((out / "run.json").read_text())["latent_space"]
    assert space["moved"] == (part == "all") == ("The latent space has moved" in capsys.readouterr().out)
    for field in {"scaling_factor", "shift_factor"} & space.keys():
        assert space[field] == {"was": model.config[field], "is": again.config[field]}
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["steps"] == 4
    assert metrics["psnr"] > 0
    assert metrics["base_psnr"] + metrics["psnr_gain"] == pytest.approx(metrics["psnr"])
    code, *_ = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.S)
    names: dict = {}
    exec(code.replace("PATH-OR-HUB-ID", str(out)), names)  # of the card
    assert names["reconstruction"].shape == (1, 3, 16, 16)
    assert ("vae_plugin" in code) == adapt(again).remote_code


@pytest.mark.slow
def test_the_result_needs_no_plugin(photographs, tmp_path):
    out = tuned(tiny("VQModel"), tmp_path, photographs)
    code = (
        "import sys, torch, diffusers; model = diffusers.VQModel.from_pretrained(sys.argv[1]);"
        "assert model(torch.zeros(1, 3, 16, 16)).sample.shape == (1, 3, 16, 16);"
        "assert not [m for m in sys.modules if m.startswith('vae_plugin')]"
    )
    subprocess.run([sys.executable, "-c", code, str(out)], check=True, capture_output=True)


def test_the_loss_falls(photographs, tmp_path):
    out = tuned(tiny("AutoencoderKL"), tmp_path, photographs, max_train_steps=40, lr_scheduler="constant")
    losses = [json.loads(line)["l1"] for line in (out / "logs" / "train.jsonl").read_text().splitlines()]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize(
    "changes",
    [
        {**GAN, "learned_variance": True, "disc_regularization": "lecam", "gradient_accumulation_steps": 2},
        {**GAN, "use_ema": True, "disc_regularization": "r1", "mixed_precision": "bf16", "validation_steps": 2},
        {"latent_anchor": 1.0, "reconstruction_loss": "l2"},
    ],
)
def test_a_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(changes, photographs, tmp_path):
    model = tiny("AutoencoderKL")
    whole = tuned(model, tmp_path, photographs, max_train_steps=6, checkpointing_steps=3, **changes)
    for later in (whole / "checkpoints").iterdir():
        assert later.name in ("step-000003", "step-000006")
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    (whole / "checkpoints" / "step-000003").rename(resumed / "step-000003")
    state = resumed / "step-000003"
    (tmp_path / "again" / "out" / "checkpoints").mkdir(parents=True)
    state.rename(tmp_path / "again" / "out" / "checkpoints" / "step-000003")
    again = tuned(
        model,
        tmp_path / "again",
        photographs,
        max_train_steps=6,
        checkpointing_steps=3,
        resume_from_checkpoint="latest",
        **changes,
        pretrained_model_name_or_path=str(tmp_path / "source"),
    )
    assert_same(weights(whole), weights(again))
    for state in ("optimizer.safetensors", *(["model_1.safetensors"] if "disc_start" in changes else [])):
        one, other = (load_file(folder / "checkpoints" / "step-000006" / state) for folder in (whole, again))
        assert_same(one, other)


def test_a_locked_codebook_does_not_move(photographs, tmp_path):
    model = tiny("VQModel")
    out = tuned(model, tmp_path, photographs, train="decoder")
    assert torch.equal(weights(out)["quantize.embedding.weight"], model.quantize.embedding.weight)


@pytest.mark.slow
def test_an_anchor_holds_the_latents(photographs, tmp_path):
    x = torch.rand(4, 3, 16, 16) * 2 - 1
    model = tiny("AutoencoderKL")
    drift = []
    for scale in (0.0, 100.0):
        out = tuned(
            model, tmp_path / str(scale), photographs, latent_anchor=scale, max_train_steps=20, lr_scheduler="constant"
        )
        tuned_model = AutoencoderKL.from_pretrained(out).eval()
        drift.append((tuned_model.encode(x).latent_dist.mean - model.encode(x).latent_dist.mean).square().mean().item())
        assert (tuned_model.config.scaling_factor == model.config.scaling_factor) == (scale > 0)
    assert drift[1] < 0.2 * drift[0]


def test_lora_is_merged_and_saved_beside(photographs, tmp_path):
    model = tiny("AutoencoderKL")
    out = tuned(model, tmp_path, photographs, train="decoder", lora_rank=2, learning_rate=1e-2)
    again = AutoencoderKL.from_pretrained(out).eval()
    assert again.state_dict().keys() == model.state_dict().keys()
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(latents(again, x), latents(model, x))
    z = torch.randn(1, 4, 8, 8)
    assert not torch.allclose(again.decode(z).sample, model.decode(z).sample, atol=1e-4)
    change = weights(out)["decoder.conv_in.weight"] - model.decoder.conv_in.weight
    assert torch.linalg.matrix_rank(change.detach().flatten(1), rtol=1e-3) <= 2
    # The file of changes does the same to the original, by diffusers alone.
    model.load_lora_adapter(out / "lora", prefix=None, weight_name="pytorch_lora_weights.safetensors")
    torch.testing.assert_close(model.decode(z).sample, again.decode(z).sample, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["all", "decoder"])
def test_a_tiny_model_learns_the_latents_of_a_teacher(part, photographs, tmp_path):
    tiny("AutoencoderKL", scaling_factor=0.5, shift_factor=1.0).save_pretrained(tmp_path / "teacher")
    settings = {
        "teacher": str(tmp_path / "teacher"),
        "model_type": "tiny",
        "block_out_channels": (8, 8),
        "train_data_dir": str(photographs),
        "train": part,
        "reconstruction_loss": "l2",
        "lr_scheduler": "constant",
        "learning_rate": 3e-3,
        "checkpointing_steps": 1000,
    }
    finetune.train(options(tmp_path / "short", **settings, max_train_steps=1))
    finetune.train(options(tmp_path / "long", **settings, max_train_steps=60))
    short, long = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("short", "long"))
    assert long["psnr_to_teacher"] > short["psnr_to_teacher"] + 3
    assert (long["latent_mse"] < 0.7 * short["latent_mse"]) == (part == "all")
    student = AutoencoderTiny.from_pretrained(tmp_path / "long").eval()
    assert (student.config.scaling_factor, student.config.shift_factor) == (1.0, 0.0)
    # The student is given what a pipeline would give it: the latents as the denoiser has them.
    teacher = AutoencoderKL.from_pretrained(tmp_path / "teacher").eval()
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    expected = student.decode((teacher.encode(x).latent_dist.mode() - 1.0) * 0.5).sample
    loss = DistillationLoss(adapt(student), adapt(teacher), ImageLoss("l2"))
    torch.testing.assert_close(loss.reconstruct(x), expected)


def test_a_student_of_flux2_takes_its_place_in_its_pipelines(photographs, tmp_path):
    teacher = tiny("AutoencoderKLFlux2")
    teacher.bn.running_mean.fill_(0.5)
    teacher.bn.running_var.fill_(4)
    teacher.save_pretrained(tmp_path / "teacher")
    out = tmp_path / "out"
    settings = {"model_type": "tiny", "block_out_channels": (8, 8), "train_data_dir": str(photographs)}
    finetune.train(options(out, teacher=str(tmp_path / "teacher"), **settings, max_train_steps=2))
    student = AutoencoderTinyFlux2.from_pretrained(out).eval()
    assert student.config.latent_channels == 4
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    mean, std = teacher.bn.running_mean[0], (teacher.bn.running_var[0] + 1e-4).sqrt()
    z = (teacher.encode(x).latent_dist.mode() - mean) / std
    loss = DistillationLoss(adapt(student), adapt(teacher), ImageLoss("l2"))
    torch.testing.assert_close(loss.reconstruct(x), student.decode(z).sample)
    assert torch.equal((student.bn.running_var + student.config.batch_norm_eps).sqrt(), torch.ones(16))
    assert not student.bn.running_mean.any()


def test_a_model_of_a_config_begins_from_nothing(photographs, tmp_path):
    tiny("AutoencoderDC").save_config(tmp_path / "config")
    out = tmp_path / "out"
    data = {"train_data_dir": str(photographs), "model_config": str(tmp_path / "config")}
    finetune.train(options(out, **data, max_train_steps=2))
    assert BY_NAME["AutoencoderDC"].from_pretrained(out).config.attention_head_dim == 4


def test_flux2_statistics_are_those_its_pipeline_applies():
    model = tiny("AutoencoderKLFlux2")
    images = [torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(i)) * 2 - 1 for i in range(3)]
    adapter = adapt(model)
    LatentStatistics(adapter, images).write()
    z = torch.cat([adapter.posterior(x).sample(torch.Generator().manual_seed(5)) for x in images])
    patches = Flux2Pipeline._patchify_latents(z)
    seen = (patches - model.bn.running_mean.view(1, -1, 1, 1)) / (model.bn.running_var.view(1, -1, 1, 1) + 1e-4).sqrt()
    torch.testing.assert_close(seen.mean((0, 2, 3)), torch.zeros(16), atol=0.3, rtol=0)
    torch.testing.assert_close(seen.std((0, 2, 3)), torch.ones(16), atol=0.3, rtol=0)
    measured = LatentStatistics(adapter, images).seen()
    assert measured["latents_mean"] == pytest.approx(0, abs=1e-3)
    assert measured["latents_std"] == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("shift", [None, 0.1])
def test_scaling_makes_the_latents_of_a_pipeline_standard(shift):
    model = tiny("AutoencoderKL", shift_factor=shift)
    images = [torch.rand(8, 3, 16, 16) * 2 - 1 for _ in range(3)]
    adapter = adapt(model)
    LatentStatistics(adapter, images).write()
    seen = torch.cat([adapter.pipeline_latents(adapter.posterior(x).sample()) for x in images])
    assert seen.square().mean().item() == pytest.approx(1, abs=0.1)
    if shift is None:
        assert model.config.shift_factor is None
    else:
        assert seen.mean().item() == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("name", BY_NAME)
def test_every_class_has_the_same_few_functions(name, tmp_path):
    tiny(name).save_pretrained(tmp_path)
    adapter = load_autoencoder(str(tmp_path))
    adapter.model.eval()
    size = adapter.only_image_size or (18, 15)  # no multiple of the ratio
    x = torch.rand(2, 3, *size) * 2 - 1
    assert adapter.spatial_compression_ratio == 2
    assert adapter.posterior(x).mode().shape == adapter.latent_shape(2, *size)
    assert adapter.reconstruct(x).shape == x.shape
    # The forward of AutoencoderTiny rounds the latents to bytes, and that of AsymmetricAutoencoderKL has no mask.
    if name not in ("AutoencoderTiny", "AsymmetricAutoencoderKL"):
        square = torch.rand(2, 3, 16, 16) * 2 - 1
        expected = reconstruction(BY_NAME[name].from_pretrained(tmp_path), square)
        torch.testing.assert_close(adapter.reconstruct(square), expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"beta": 2.0}, "--beta applies only to --model_type vae, not to AutoencoderKL: leave it out"),
        ({"reconstruction_loss": "elbo"}, "needs a model with a likelihood"),
        ({"resolution": 15}, "--resolution 15 is not a multiple of 2"),
        ({"teacher": "somewhere"}, "somewhere"),
        ({"disc_scale": 1.0}, "--disc_scale needs --disc_start: give both"),
        (
            {"latent_anchor": 1.0, "train": "decoder"},
            "--latent_anchor has no effect with --train decoder: leave one of them out",
        ),
        ({"latent_channels": 16}, "--latent_channels 16 conflicts with .*, which has 4. It applies only to new models"),
        ({"disc_start": 0}, "too small for a discriminator"),
        ({"use_8bit_adam": True}, "needs a CUDA GPU"),
        ({"perceptual_loss": "nothing.here:network"}, "--perceptual_loss nothing.here:network"),
        ({"perceptual_loss": "vgg"}, "lpips-vgg"),
        ({"model_config": "config.json"}, "has its own: leave it out"),
    ],
)
def test_what_cannot_be_is_one_sentence(changes, words, photographs, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # where nothing is called `somewhere` either
    with pytest.raises(UserError, match=words):
        tuned(tiny("AutoencoderKL"), tmp_path, photographs, **changes)


def test_a_class_that_cannot_be_trained_says_why(photographs, tmp_path):
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderOobleck"}')
    with pytest.raises(UserError, match=r"AutoencoderOobleck, which is not supported: .*of sound"):
        load_autoencoder(str(tmp_path))


SLOWLY = [pytest.param(name, marks=pytest.mark.slow) for name in ("VQModel", "AutoencoderDC")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["AutoencoderKLWan", *SLOWLY])
def test_gradient_checkpointing(name, photographs, tmp_path):
    plain = tuned(tiny(name), tmp_path / "plain", photographs)
    saving = tuned(tiny(name), tmp_path / "saving", photographs, gradient_checkpointing=True)
    for key, value in weights(plain).items():
        torch.testing.assert_close(weights(saving)[key], value, rtol=1e-3, atol=1e-5)


def test_a_tiny_encoder_sees_the_same_images_with_gradient_checkpointing(photographs, tmp_path):
    settings = {"gradient_checkpointing": True, "learning_rate": 1e-4, "max_train_steps": 2}
    saving = tuned(tiny("AutoencoderTiny"), tmp_path / "saving", photographs, **settings)
    plain = tuned(
        tiny("AutoencoderTiny"), tmp_path / "plain", photographs, **{**settings, "gradient_checkpointing": False}
    )
    for key, value in weights(plain).items():
        torch.testing.assert_close(weights(saving)[key], value, rtol=1e-3, atol=1e-5)


def test_pictures_reach_the_tracker(photographs, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tuned(
        tiny("AutoencoderKL"), tmp_path, photographs, report_to="tensorboard", validation_steps=2, max_train_steps=4
    )
    logs = [EventAccumulator(str(p), size_guidance={"images": 0}).Reload() for p in (out / "logs").rglob("*tfevents*")]
    [log] = [log for log in logs if log.Tags()["images"]]
    assert [image.step for image in log.Images("reconstructions")] == [2, 4]
    assert [scalar.step for scalar in log.Scalars("validation/psnr")] == [2, 4]


@pytest.mark.slow
def test_the_best_weights_are_kept(photographs, tmp_path):
    out = tuned(
        tiny("AutoencoderKL"),
        tmp_path,
        photographs,
        validation_steps=1,
        max_train_steps=8,
        learning_rate=0.3,  # too much: it becomes worse
        lr_scheduler="constant",
    )
    best = json.loads((out / "best" / "metrics.json").read_text())
    log = [json.loads(line) for line in (out / "logs" / "train.jsonl").read_text().splitlines()]
    assert len(log) == 8
    assert best["psnr"] > json.loads((out / "metrics.json").read_text())["psnr"]
    assert best["steps"] < 8
    model = AutoencoderKL.from_pretrained(out / "best").eval()
    _, held_out = load_images(train_data_dir=str(photographs), resolution=16, channels=3).split(4)
    measured = evaluate(model, [torch.stack([item["pixel_values"] for item in held_out])])
    assert measured["psnr"] == pytest.approx(best["psnr"], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("AutoencoderKL", {"channels_last": True}),
        pytest.param("AutoencoderTiny", {"compile": True}, marks=pytest.mark.slow),
    ],
)
def test_ways_to_compute_change_nothing(name, changes, photographs, tmp_path):
    settings = {"learning_rate": 1e-4, "checkpointing_steps": 100, **GAN}
    plain = tuned(tiny(name), tmp_path / "plain", photographs, **settings)
    other = tuned(tiny(name), tmp_path / "other", photographs, **settings, **changes)
    for key, value in weights(plain).items():
        torch.testing.assert_close(weights(other)[key], value, rtol=1e-2, atol=2e-4)


def test_images_of_other_channels_adapt_the_model(photographs, tmp_path):
    out = tuned(tiny("AutoencoderKL"), tmp_path, photographs, in_channels=4)
    again = AutoencoderKL.from_pretrained(out)
    assert (again.config.in_channels, again.config.out_channels) == (4, 4)
    assert again(torch.zeros(1, 4, 16, 16)).sample.shape == (1, 4, 16, 16)
