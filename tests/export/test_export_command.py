"""`vae-plugin export` as a user types it."""

import pytest
import torch
from diffusers import AutoencoderKL, VQModel
from safetensors import safe_open
from safetensors.torch import load_file

from support.tiny_exports import images, kl, vae, vqvae
from vae_plugin.cli import main
from vae_plugin.commands import export as command
from vae_plugin.hub import RunRecord


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source")
    vae().save_pretrained(path / "vae")
    vqvae().to_vq_model().save_pretrained(path / "vq")
    kl().save_pretrained(path / "pipeline" / "vae")
    vae(likelihood="bernoulli").save_pretrained(path / "bernoulli")
    return path


def export(source, *words):
    return main(["export", "--pretrained_model_name_or_path", str(source), *map(str, words)])


def test_a_folder_of_diffusers(source, tmp_path, capsys):
    assert export(source / "vae", "--output", tmp_path / "out") == 0
    assert f"AutoencoderKL.from_pretrained('{tmp_path}/out')" in capsys.readouterr().out
    assert torch.equal(AutoencoderKL.from_pretrained(tmp_path / "out")(images()).sample, vae()(images()).sample)
    assert export(source / "vq", "--output", tmp_path / "vq", "--dtype", "float16") == 0
    assert VQModel.from_pretrained(tmp_path / "vq", torch_dtype=torch.float16).dtype == torch.float16
    state = load_file(tmp_path / "vq" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in state.values()} == {torch.float16}


def test_a_single_file_and_back(source, tmp_path, capsys):
    file = tmp_path / "deep" / "vae.safetensors"
    words = ["--subfolder", "vae", "--format", "single_file", "--output", file]
    assert export(source / "pipeline", *words) == 0
    printed = capsys.readouterr().out
    assert "from_single_file" in printed
    assert "cannot load this one: block_out_channels = (8, 8, 16)" in printed
    config = str(source / "pipeline" / "vae")
    assert torch.equal(AutoencoderKL.from_single_file(str(file), config=config)(images()).sample, kl()(images()).sample)
    assert (
        export(source / "pipeline", *words, "--overwrite", "--prefix", "first_stage_model", "--dtype", "bfloat16") == 0
    )
    with safe_open(file, "pt") as opened:
        assert {name.partition(".")[0] for name in opened.keys()} == {"first_stage_model"}  # noqa: SIM118
        assert opened.get_tensor("first_stage_model.quant_conv.bias").dtype == torch.bfloat16


def test_a_single_file_says_that_the_latents_have_moved(tmp_path, capsys):
    kl().save_pretrained(tmp_path / "out")
    file = tmp_path / "vae.safetensors"
    for part, says in (("all", True), ("decoder", False)):
        RunRecord(base_model="user/base", part=part).save(tmp_path / "out")
        assert export(tmp_path / "out", "--format", "single_file", "--output", file, "--overwrite") == 0
        with safe_open(file, "pt") as opened:
            note = opened.metadata().get("note", "")
        assert (
            ("The latent space has moved" in note) == ("The latent space has moved" in capsys.readouterr().out) == says
        )
        assert ("user/base needs training" in note) == says


def test_onnx_is_written_where_it_was_asked(source, tmp_path, capsys, monkeypatch):
    asked = []

    def save_onnx(*given, **how):
        asked.append((*given, how))
        return {"decoder.image": 1.5e-6}

    monkeypatch.setattr(command, "save_onnx", save_onnx)
    more = ("--layout", "optimum", "--dtype", "float16", "--opset", "18")
    assert export(source / "vae", "--format", "onnx", "--output", tmp_path / "out", *more) == 0
    ((model, folder, overwrite, how),) = asked
    assert (type(model.model).__name__, folder, overwrite) == ("AutoencoderVAE", tmp_path / "out", False)
    assert how == {"layout": "optimum", "dtype": torch.float16, "opset": 18}
    assert "decoder.image 1.5e-06" in capsys.readouterr().out


def test_a_variant_is_written_and_opened_by_its_name(source, tmp_path):
    more = ("--output_variant", "fp16", "--dtype", "float16")
    assert export(source / "vae", "--output", tmp_path / "out", *more) == 0
    assert (tmp_path / "out" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    assert (
        AutoencoderKL.from_pretrained(tmp_path / "out", variant="fp16", torch_dtype=torch.float16).dtype
        == torch.float16
    )


MISTAKES = {
    "an opset that is too old": (["--format", "onnx", "--output", "o", "--opset", "11"], "--opset"),
    "bfloat16 in ONNX": (["--format", "onnx", "--output", "o", "--dtype", "bfloat16"], "give float32 or float16"),
    "no output": ([], "no output given: name a folder after the model"),
    "no such format": (["--format", "gguf", "--output", "o"], "accepted are 'diffusers', 'single_file', 'onnx'"),
    "a folder for a file": (
        ["--format", "single_file", "--output", "full"],
        "full must be the name of a .safetensors file, such as vae.safetensors.",
    ),
    "another kind of file": (["--format", "single_file", "--output", "vae.ckpt"], "must be the name of a .safetensors"),
    "a file that is there": (
        ["--format", "single_file", "--output", "full/there.safetensors"],
        "there.safetensors already exists: give another name, or --overwrite to replace it.",
    ),
    "a file for a folder": (["--output", "full/there.safetensors"], "is a file: give a folder"),
    "a folder that is not empty": (["--output", "full"], "full is not empty: give another folder, or --overwrite"),
    "the model itself": (["--output", "{source}/vae", "--overwrite"], "is the model itself"),
    "the precision of code": (
        ["--format", "remote_code", "--dtype", "float16", "--output", "o"],
        "--dtype applies only to --format diffusers, single_file, onnx or taesd, not to remote_code: leave it out.",
    ),
    "a prefix for a folder": (
        ["--prefix", "first_stage_model", "--output", "o"],
        "--prefix applies only to --format single_file, not to diffusers: leave it out.",
    ),
    "another prefix": (["--prefix", "ema", "--output", "o"], "accepted are 'first_stage_model', 'vae'"),
    "no such precision": (["--dtype", "int8", "--output", "o"], "accepted are 'float32', 'float16', 'bfloat16'"),
    "a likelihood that diffusers lacks": (
        ["--pretrained_model_name_or_path", "{source}/bernoulli", "--output", "o"],
        "this AutoencoderVAE cannot become a class of diffusers: an AutoencoderKL cannot have a bernoulli likelihood",
    ),
    "codes in a single file": (
        ["--pretrained_model_name_or_path", "{source}/vq", "--format", "single_file", "--output", "o.safetensors"],
        "and this model is VQModel: export it with --format diffusers.",
    ),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_a_mistake_is_one_sentence(mistake, source, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "there.safetensors").write_text("mine")
    words, message = MISTAKES[mistake]
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    assert export(source / "vae", *[word.format(source=source) for word in words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (tmp_path / "full" / "there.safetensors").read_text() == "mine"
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["full", "full/there.safetensors"]
    assert before == {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}


@pytest.mark.parametrize("format", ["diffusers", "single_file"])
@pytest.mark.parametrize(
    ("dtype", "value", "fits"), [("float16", 7e4, False), ("float16", 6e4, True), ("bfloat16", 3.4e38, False)]
)
def test_a_precision_that_cannot_hold_the_weights_is_refused(format, dtype, value, fits, tmp_path, capsys):
    model = kl()
    with torch.no_grad():
        model.quant_conv.bias[0] = value
    model.save_pretrained(tmp_path / "model")
    output = tmp_path / ("out.safetensors" if format == "single_file" else "out")
    status = export(tmp_path / "model", "--output", output, "--format", format, "--dtype", dtype)
    message = capsys.readouterr().err
    if fits:
        assert status == 0
    else:
        assert status == 2
        assert f"{dtype} cannot hold these weights (quant_conv.bias)" in message
        assert message.count("\n") == 1
        assert not output.exists()
