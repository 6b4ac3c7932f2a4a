"""`vae-plugin` as a user types it: its commands, and what it says to mistakes."""

import io
import json
import math
import os
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DiTPipeline
from PIL import Image

from support.hostile_images import png_of_size
from vae_plugin import AutoencoderVAE, AutoencoderVQVAE
from vae_plugin.cli import COMMANDS, main, module_of
from vae_plugin.commands import card, evaluate, push
from vae_plugin.datasets import Circles
from vae_plugin.options import options_of
from vae_plugin.training.settings import FinetuneOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    vae = AutoencoderVAE(
        in_channels=1, block_out_channels=(8, 8), norm_num_groups=4, sample_size=16, latent_channels=2, sigma=0.3
    )
    vae.save_pretrained(path)
    return path


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"vae-plugin {command}" in capsys.readouterr().out


def test_a_command_that_does_not_exist(capsys):
    assert main(["fintune"]) == 2
    assert capsys.readouterr().err == "error: unknown command 'fintune': did you mean 'finetune'?\n"


def test_evaluate_measures_what_the_model_does(folder, tmp_path, capsys):
    file = tmp_path / "deep" / "metrics.json"
    words = ["--max_images", "20", "--num_importance_samples", "3", "--output_file", str(file)]
    assert main(["evaluate", "--pretrained_model_name_or_path", str(folder), *words]) == 0
    metrics = json.loads(file.read_text())
    assert "PSNR" in capsys.readouterr().out

    vae = AutoencoderVAE.from_pretrained(folder).eval()
    circles = Circles(20, 16, 1, seed=1)
    x = circles.render(circles.factors)
    with torch.no_grad():
        shown = ((vae(x).sample.clamp(-1, 1) + 1) * 127.5).round()
        errors = (shown - ((x + 1) * 127.5).round()).square().mean((1, 2, 3))
        kl = vae.posterior(x)
        kl = 0.5 * (kl.mean**2 + kl.std**2 - 1 - 2 * kl.std.log()).sum((1, 2, 3))
    assert metrics["num_images"] == 20
    assert metrics["psnr"] == pytest.approx((10 * torch.log10(255**2 / errors)).mean().item(), rel=1e-4)
    assert metrics["kl_nats"] == pytest.approx(kl.mean().item(), rel=1e-4)
    bits = -metrics["elbo_nats"] / (256 * math.log(2)) + math.log2(127.5)
    assert metrics["bits_per_dim_bound"] == pytest.approx(bits, rel=1e-5)
    assert metrics["log_likelihood_nats"] > metrics["elbo_nats"]


def test_evaluate_measures_files(folder, tmp_path, capsys):
    for i, factors in enumerate(Circles(5, 16, 1).factors):
        pixels = Circles(1, 24, 1).render(factors[None])[0, 0]
        Image.fromarray(((pixels.numpy() + 1) * 127.5).round().astype(np.uint8)).save(tmp_path / f"{i}.png")
    words = ["evaluate", "--pretrained_model_name_or_path", str(folder), "--data_dir", str(tmp_path)]
    assert main([*words, "--max_images", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_images"] == 3


def test_reconstruct_writes_original_and_reconstruction_side_by_side(folder, tmp_path, capsys):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (18, 30), dtype=np.uint8))
    image.save(tmp_path / "noise.png")
    words = ["--images", str(tmp_path / "noise.png"), "--output_dir", str(tmp_path / "out")]
    assert main(["reconstruct", "--pretrained_model_name_or_path", str(folder), *words]) == 0
    pair = np.asarray(Image.open(tmp_path / "out" / "noise-reconstruction.png"))
    assert pair.shape == (18, 60)
    assert (pair[:, :30] == np.asarray(image)).all()
    vae = AutoencoderVAE.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = vae(torch.from_numpy(np.array(image)).float()[None, None] / 127.5 - 1).sample[0, 0]
    assert np.abs(pair[:, 30:] - ((expected.clamp(-1, 1) + 1) * 127.5).numpy()).max() <= 0.51
    assert "PSNR" in capsys.readouterr().out


def test_reconstruct_refuses_what_is_no_image_in_one_sentence(folder, tmp_path, capsys):
    files = {"maximum.pgm": b"P5 1 1 70000 x", "bomb.png": png_of_size(60_000, 60_000), "empty.jpg": b""}
    files |= {"float.pfm": b"Pf\n2 2\n-1.0\n" + bytes(16), "postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "pipe.png")
    os.symlink("loop.png", tmp_path / "loop.png")
    Image.new("L", (16, 16)).save(tmp_path / "good.png")
    output = ["--output_dir", str(tmp_path / "out")]
    for name in (*files, "pipe.png", "loop.png", "missing.png"):
        assert main(["reconstruct", str(folder), str(tmp_path / name), *output]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {tmp_path / name} cannot be read as an image: ")
        assert error.count("\n") == 1
    words = [str(tmp_path / "good.png"), *output]
    assert main(["reconstruct", str(folder), *words, "--max_image_pixels", "255"]) == 2
    assert "claims 16 x 16 pixels" in capsys.readouterr().err
    assert main(["reconstruct", str(folder), *words, "--max_image_pixels", "256"]) == 0


def test_evaluate_leaves_out_what_cannot_be_read_and_says_so_on_any_terminal(folder, tmp_path, capsys, monkeypatch):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(3):
        Image.new("L", (16, 16), i).save(images / f"{i}.png")
    for name in (b"\xff.png", "東京.png".encode(), b"new\nline.png"):
        (images / os.fsdecode(name)).write_bytes(b"no image")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    assert main(["evaluate", str(folder), "--train_data_dir", str(images), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_images"] == 3
    *_, last = written.getvalue().splitlines()
    assert last.startswith(b"note: 3 file(s) could not be read as images and were left out: ")
    for name in (b"%FF.png", b"\\u6771\\u4eac.png", b"new\\nline.png"):
        assert name in last


def test_both_commands_take_a_discrete_model(tmp_path, capsys):
    model = AutoencoderVQVAE(
        in_channels=1, block_out_channels=(8, 8), norm_num_groups=4, sample_size=16, num_vq_embeddings=32
    )
    model.save_pretrained(tmp_path / "model")
    source = ["--pretrained_model_name_or_path", str(tmp_path / "model")]
    assert main(["evaluate", *source, "--max_images", "5", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["kl_nats"] == pytest.approx(64 * math.log(32))
    assert metrics["codebook_positions"] == 5 * 64
    assert main(["evaluate", *source, "--max_images", "5", "--num_importance_samples", "2"]) == 2
    assert "leave --num_importance_samples out" in capsys.readouterr().err
    Image.new("L", (20, 20)).save(tmp_path / "black.png")
    words = ["--images", str(tmp_path / "black.png"), "--output_dir", str(tmp_path)]
    assert main(["reconstruct", *source, *words]) == 0


def test_images_of_another_size_than_an_mlp_takes_are_for_evaluate(tmp_path, capsys):
    AutoencoderVAE(in_channels=1, sample_size=(16, 24), network="mlp").save_pretrained(tmp_path / "model")
    Image.new("L", (20, 20)).save(tmp_path / "black.png")
    words = ["--output_dir", str(tmp_path / "out")]
    assert main(["reconstruct", str(tmp_path / "model"), str(tmp_path / "black.png"), *words]) == 2
    expected = "error: this model takes images of 16 x 24 pixels only: use evaluate, which crops them.\n"
    assert capsys.readouterr().err == expected
    assert not (tmp_path / "out").exists()


def test_what_has_an_obvious_place_needs_no_name(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture = Image.fromarray(np.arange(16 * 16, dtype=np.uint8).reshape(16, 16))
    picture.save("one.png")
    picture.save("two.png")
    written = {}
    for form in ("by place", "by name"):
        model, images, output = (["--pretrained_model_name_or_path"], ["--images"], ["--output"])
        if form == "by place":
            model, images, output = [], [], []
        assert main(["evaluate", *model, str(folder), "--max_images", "4", "--json"]) == 0
        measured = json.loads(capsys.readouterr().out)
        assert main(["reconstruct", *model, str(folder), *images, "one.png", "two.png", "--output_dir", form]) == 0
        assert main(["export", *model, str(folder), *output, f"{form}/plain"]) == 0
        assert main(["export", "--format", "single_file", *model, str(folder), *output, f"{form}/v.safetensors"]) == 0
        files = sorted(path for path in (tmp_path / form).rglob("*") if path.is_file())
        # The metadata of a safetensors file have no order.
        contents = [sorted(path.read_bytes()) for path in files]
        written[form] = (measured, [path.relative_to(tmp_path / form) for path in files], contents)
        assert len(files) == 5
        capsys.readouterr()
    assert written["by place"] == written["by name"]


def test_push_and_card_take_the_folder_by_place_or_by_name(folder, capsys, monkeypatch):
    """And the repository; the Hub itself is the matter of tests/hub."""
    pushed, written = [], []
    answer = SimpleNamespace(pr_url=None, commit_url="address")
    monkeypatch.setattr(push, "push", lambda *given, **settings: pushed.append(given) or answer)
    monkeypatch.setattr(card, "write_card", lambda given, repo_id, **_: written.append((given, repo_id)))
    names = [("--folder", "--repo_id"), ("--pretrained_model_name_or_path", "--hub_model_id")]
    for model, repository in (([], []), *(([a], [b]) for a, b in names)):
        assert main(["push", *model, str(folder), *repository, "user/name"]) == 0
        assert main(["card", *model, str(folder), "--repo_id", "user/name"]) == 0
    assert main(["card", str(folder)]) == 0
    assert pushed == [(str(folder), "user/name")] * 3
    assert written == [(folder, "user/name")] * 3 + [(folder, None)]
    assert "On the Hub: address" in capsys.readouterr().out


def test_a_folder_of_images_has_one_name_in_all_commands_and_the_other_is_taken():
    for cls in (FinetuneOptions, evaluate.EvaluateOptions):
        assert options_of(cls)["train_data_dir"].declaration.also == ("data_dir",)


def test_every_command_says_what_it_does(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            main([name, "--help"])
        assert stopped.value.code == 0
        text = capsys.readouterr().out
        assert f"usage: vae-plugin {name}" in text
        assert (module_of(name).__doc__ or "").splitlines()[0] == COMMANDS[name]
        assert COMMANDS[name] in " ".join(text.split())


def test_the_help_of_finetune_begins_with_the_options_that_most_runs_need(capsys):
    options = options_of(FinetuneOptions)
    lengths = []
    common = [option for option in options.values() if option.declaration.common]
    for flag, shown in (("--help", common), ("--help-all", options.values())):
        with pytest.raises(SystemExit):
            main(["finetune", flag])
        text = capsys.readouterr().out
        listed = set(re.findall(r"^ *--(\w+)", text, re.M))
        assert {o.name for o in shown} <= listed
        lengths.append(len(listed & options.keys()))
    assert lengths[0] <= 20
    assert lengths[1] == len(options)


MISTAKES = {
    "no model": (["evaluate"], "no model given"),
    "nothing to export": (["export"], "no model given"),
    "nothing to push": (["push"], "no folder given: name the folder of a model"),
    "nowhere to push": (["push", "{folder}"], "no repository given: name it after the folder, as user/name"),
    "no card": (["card"], "no folder given: name the folder of a model"),
    "a model by place and by name": (
        ["evaluate", "{folder}", "--pretrained_model_name_or_path", "{folder}"],
        "--pretrained_model_name_or_path and MODEL are the same option: give one of them",
    ),
    "one too many": (["push", "{folder}", "user/name", "{folder}"], "unknown option"),
    "no such model": (["evaluate", "--pretrained_model_name_or_path", "./not-there"], "./not-there does not exist"),
    "a folder without a model": (
        ["evaluate", "--pretrained_model_name_or_path", "{empty}"],
        "no model can be opened at",
    ),
    "no image": (["reconstruct", "--pretrained_model_name_or_path", "{folder}"], "no image given"),
    "no such image": (
        ["reconstruct", "--pretrained_model_name_or_path", "{folder}", "--images", "not-there.png"],
        "cannot be read as an image",
    ),
    "another kind of model": (
        ["evaluate", "--pretrained_model_name_or_path", "{other}"],
        "holds UNet2DModel, which is not",
    ),
    "two sources": (
        ["evaluate", "--pretrained_model_name_or_path", "x", "--dataset_name", "circles", "--data_dir", "y"],
        "--dataset_name has no effect with --train_data_dir: leave one of them out",
    ),
    "a file for the output": (["finetune", "--output_dir", "{other}/config.json"], "cannot be the output folder"),
    "no folder for the metrics": (
        ["evaluate", "--pretrained_model_name_or_path", "{folder}", "--output_file", "{other}/config.json/a.json"],
        "config.json cannot be the output folder: File exists. Give another folder.",
    ),
    "no such subfolder": (
        ["evaluate", "--pretrained_model_name_or_path", "{folder}", "--subfolder", "vae"],
        "there is no config.json in it",
    ),
    "a file for a model": (
        ["evaluate", "--pretrained_model_name_or_path", "{folder}/config.json"],
        "config.json is no model",
    ),
    "no images to measure": (
        ["evaluate", "--pretrained_model_name_or_path", "{folder}", "--max_images", "0"],
        "--max_images is 0: it must be at least 1",
    ),
    "coloured circles for a gray model": (
        ["evaluate", "--pretrained_model_name_or_path", "{folder}", "--circles_hue"],
        "--circles_hue makes images of 3 channels, but the model takes 1",
    ),
    "one name twice": (
        ["reconstruct", "--pretrained_model_name_or_path", "{folder}", "--images", "a/x.png", "b/x.png"],
        "x-reconstruction.png would be written twice: give images with different names, or one at a time.",
    ),
    "a reconstruction over an image": (
        ["reconstruct", "{folder}", "x.png", "out/x-reconstruction.png", "--output_dir", "out"],
        "out/x-reconstruction.png is one of the images, and would be overwritten: give another --output_dir.",
    ),
    "a seed below zero": (["finetune", "--seed", "-1"], "--seed is -1: it must be at least 0"),
    "a level without channels": (["finetune", "--block_out_channels", "0"], "each number must be at least 1"),
    "tiny circles": (["finetune", "--resolution", "2", "--output_dir", "{other}/o"], "at least 8"),
    "unknown option": (["evaluate", "--pretraind_model_name_or_path", "x"], "--pretrained_model_name_or_path"),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_a_mistake_is_one_sentence(mistake, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    words, message = MISTAKES[mistake]
    assert main([word.format(folder=folder, other=tmp_path, empty=tmp_path / "empty") for word in words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_circles_are_not_for_a_model_of_four_channels(tmp_path, capsys):
    AutoencoderVAE(
        in_channels=4, latent_channels=2, block_out_channels=(4, 4), norm_num_groups=2, sample_size=16
    ).save_pretrained(tmp_path)
    assert main(["evaluate", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "circles have 1 or 3 channels, and the model takes 4: give other images." in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_the_demo_leaves_a_pipeline_and_pictures_and_can_be_run_again(tmp_path, capsys):
    words = ["--train_steps", "3", "--denoiser_steps", "2", "--vqvae_steps", "2"]
    words += ["--disentangled_steps", "3", "--num_circles", "80"]
    for _ in range(2):
        assert main(["demo", "--output_dir", str(tmp_path), "--resolution", "16", *words]) == 0
    assert f"{tmp_path}/overview.png" in capsys.readouterr().out
    for name in ("overview", "reconstructions", "interpolation", "pipeline", "latents", "indices", "code_changes"):
        assert np.asarray(Image.open(tmp_path / f"{name}.png")).std() > 0
    pipeline = DiTPipeline.from_pretrained(tmp_path / "pipeline")
    assert isinstance(pipeline.vae, AutoencoderVAE)
    image = pipeline([0], num_inference_steps=2, output_type="np").images
    assert image.shape == (1, 16, 16, 3)
