"""A model that gives NaN or infinity is refused in one sentence, and no file that is meant to be JSON holds either."""

import ast
import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

import vae_plugin
from support.runs import curves, options
from support.tiny_diffusers import tiny
from support.tiny_lab import errors, listen, open_lab
from support.tiny_lab import tiny as own
from vae_plugin import cli, finetune, metrics
from vae_plugin.autoencoders import adapt
from vae_plugin.errors import NotFiniteError, TrainingStopped, UserError
from vae_plugin.files import write_json
from vae_plugin.training.failures import StepFailed
from vae_plugin.training.hooks.log import CurveLog
from vae_plugin.training.statistics import LatentStatistics, fit_noise_scale

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def overflowing(model, part):
    """Finite weights, whose products are not."""
    layer = model.decoder.conv_out if part == "decoder" else model.encoder.conv_out
    with torch.no_grad():
        layer.weight.copy_(torch.where(layer.weight > 0, 3e38, -3e38))
    return model


@pytest.fixture
def folder(tmp_path):
    overflowing(tiny("AutoencoderKL"), "decoder").save_pretrained(tmp_path / "model")
    Image.new("RGB", (16, 16), (200, 90, 0)).save(tmp_path / "a.png")
    return tmp_path


@pytest.mark.parametrize("name", ["conv", "ema", "AutoencoderKL"])
def test_an_evaluation_says_so(name):
    model = overflowing(own(name), "decoder")
    with pytest.raises(
        NotFiniteError, match=r"^the reconstruction of 4 of 4 images is NaN or infinite: the weights are"
    ):
        metrics.evaluate(model, IMAGES.split(3))


def test_an_evaluation_names_the_measure_and_the_number_of_images():
    def compare(x, y):
        return {"perceptual": torch.tensor([0.5, math.inf, math.nan, 0.5])}

    with pytest.raises(NotFiniteError, match=r"^the perceptual of 2 of 4 images is NaN or infinite"):
        metrics.evaluate(own("conv"), [IMAGES], compare=compare)


def test_statistics_of_latents_and_of_noise_say_so():
    with pytest.raises(StepFailed, match="the latents of training images are NaN or infinite"):
        LatentStatistics(adapt(overflowing(own("conv"), "encoder")), [IMAGES]).moments()
    with pytest.raises(StepFailed, match="the reconstructions of training images are NaN or infinite"):
        fit_noise_scale(adapt(overflowing(own("conv"), "decoder")), [IMAGES])


def test_latents_that_are_all_equal_have_no_scale():
    model = tiny("AutoencoderTiny")
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()
    with pytest.raises(StepFailed, match="the latents of all training images are equal"):
        LatentStatistics(adapt(model), [IMAGES]).moments()


def test_the_commands_say_so_and_write_nothing(folder, capsys):
    out = folder / "out"
    assert cli.main(["reconstruct", str(folder / "model"), str(folder / "a.png"), "--output_dir", str(out)]) == 2
    assert f"error: the reconstruction of {folder / 'a.png'} is NaN or infinite" in capsys.readouterr().err
    assert not list(out.iterdir())
    words = ["--resolution", "16", "--max_images", "3", "--output_file", str(out / "metrics.json")]
    assert cli.main(["evaluate", str(folder / "model"), *words]) == 2
    assert "error: the reconstruction of 3 of 3 images is NaN or infinite" in capsys.readouterr().err
    assert not list(out.iterdir())


def test_a_fine_tune_of_such_a_model_stops_before_its_first_step(folder):
    changes = {"circles_hue": True, "num_validation_images": 2, "pretrained_model_name_or_path": str(folder / "model")}
    with pytest.raises(TrainingStopped, match=r"the reconstruction of 2 of 2 images is NaN or infinite at step 0: "):
        finetune.train(options(folder / "out", **changes))


def test_a_run_whose_decoder_breaks_stops_at_the_validation(tmp_path, monkeypatch):
    """The loss does not see what the decoder makes in evaluation mode."""
    from vae_plugin.training.losses import ELBOLoss

    monkeypatch.setattr(ELBOLoss, "reconstruct", lambda self, x: x * math.nan)
    changes = {"validation_steps": 2, "checkpointing_steps": 2, "num_validation_images": 2, "max_train_steps": 4}
    with pytest.raises(TrainingStopped, match=r"the reconstruction of 2 of 2 images is NaN or infinite at step 2: "):
        finetune.train(options(tmp_path / "out", **changes))
    assert len(curves(tmp_path / "out")) == 2
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_the_lab_says_so_instead_of_showing_black():
    model = own("conv")
    with open_lab(model, list(IMAGES)) as lab:
        heard, before = listen(lab), lab.latent
        overflowing(model, "decoder")
        with pytest.raises(UserError, match="what the decoder gives for this latent is NaN or infinite"):
            lab.latent = before * 0.5
        lab._session.open_from_set(1)
        assert lab.wait(60)
        assert any("what the decoder gives for this latent is NaN or infinite" in text for text in errors(heard))


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": 1.0, "b": math.nan}, "b = nan"),
        ({"a": {"b": [0.0, -math.inf]}}, r"a\.b\[1\] = -inf"),
        ([math.inf], r"\[0\] = inf"),
        (math.nan, "nan"),
    ],
)
def test_no_json_holds_what_json_lacks(value, place, tmp_path):
    with pytest.raises(UserError, match=f"metrics.json cannot hold {place}: JSON has no such number"):
        write_json(tmp_path / "metrics.json", value)
    assert not list(tmp_path.iterdir())


def test_a_curve_has_null_where_it_has_no_number(tmp_path):
    log = CurveLog(tmp_path / "train.jsonl", 0)
    log.log(0, {"loss": 0.5, "kl_nats": math.nan, "psnr": math.inf})
    log.close()
    line = (tmp_path / "train.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail) == {"step": 0, "loss": 0.5, "kl_nats": None, "psnr": None}


def test_files_of_json_are_written_by_one_function():
    package = Path(vae_plugin.__file__).parent
    writing = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (ast.unparse(node.func) == "json.dump" or {"indent", None} & {keyword.arg for keyword in node.keywords})
        and ast.unparse(node.func).startswith("json.dump")
    }
    assert writing == {"files.py"}
