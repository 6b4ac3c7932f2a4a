"""What cannot work is found before the first step: teachers, single vectors, sizes beyond the memory."""

import os
import random
import resource

import pytest
import torch

from support.runs import TINY, flags, options
from vae_plugin import AutoencoderVAE, cli, finetune
from vae_plugin.errors import TrainingStopped, UserError, is_out_of_memory
from vae_plugin.options import build, options_of
from vae_plugin.training import memory
from vae_plugin.training.accelerator import make_accelerator
from vae_plugin.training.losses import ELBOLoss
from vae_plugin.training.run import build_run
from vae_plugin.training.settings import FinetuneOptions

GIB = 2**30


def built(asked):
    """The run with these options, before its first step."""
    return build_run(asked, make_accelerator(asked))


@pytest.mark.parametrize(
    "changes",
    [
        {"block_out_channels": (65536,)},
        {"block_out_channels": (65536, 65536, 65536)},
        {"latent_channels": 65536, "block_out_channels": (65536,)},
        {"layers_per_block": 64, "block_out_channels": (4096, 4096)},
        {"network": "mlp", "hidden_sizes": (2**20, 2**20)},
        {"model_type": "vqvae", "codebook_size": 2**31 - 1, "codebook_dim": 64},
        {"model_type": "vqvae", "quantizer": "rvq", "num_quantizers": 1024, "codebook_size": 2**24},
        {"model_type": "tiny", "block_out_channels": (65536,)},
        {"reconstruction_loss": "l1", "disc_start": 0, "disc_channels": 65536, "block_out_channels": (8,)},
        {"resolution": 65536, "block_out_channels": (8, 8)},
        {"train_batch_size": 2**20, "resolution": 1024, "circles_length": 2**20},
    ],
    ids=str,
)
def test_sizes_beyond_the_memory_are_refused_before_they_are_allocated(changes, tmp_path, monkeypatch):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: type("Memory", (), {"total": 16 * GIB}))
    monkeypatch.setattr(memory.psutil, "swap_memory", lambda: type("Memory", (), {"total": 0}))
    given = {"output_dir": str(tmp_path), "max_train_steps": 1, **changes}
    if "hidden_sizes" not in changes and changes.get("model_type") != "tiny":
        given["norm_num_groups"] = 4
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"needs [\d,]+ GiB, and this machine has 16: give "):
        built(build(FinetuneOptions, given))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2e6  # KiB


@pytest.mark.parametrize(
    "words",
    [
        ["--block_out_channels", "1000000000"],
        ["--resolution", "1000000"],
        ["--train_batch_size", "1000000000"],
        ["--dataloader_num_workers", "100000"],
        ["--layers_per_block", "1000000000"],
        ["--disc_layers", "1000000000", "--disc_start", "0", "--reconstruction_loss", "l1"],
        ["--circles_length", "1000000000"],
        ["--quantizer", "rvq", "--num_quantizers", "1000000000", "--model_type", "vqvae"],
    ],
    ids=" ".join,
)
def test_absurd_sizes_are_one_sentence(words, tmp_path, capsys):
    assert cli.main(["finetune", "--output_dir", str(tmp_path / "out"), *words]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"error: {words[0]} is") or errors.startswith(f"error: {words[2]} is")
    assert errors.count("\n") == 1


def test_a_step_for_which_there_is_no_memory_ends_the_run_in_one_sentence(tmp_path, monkeypatch, capsys):
    def forward(self, x, noise, step, *more):
        if step == 1:
            torch.empty(2**50)  # what torch itself says of it
        return original(self, x, noise, step, *more)

    original = ELBOLoss.forward
    monkeypatch.setattr(ELBOLoss, "forward", forward)
    with pytest.raises(TrainingStopped, match=r"not enough memory at step 1: .* --train_batch_size, --resolution"):
        finetune.train(options(tmp_path / "out"))
    assert cli.main(["finetune", *flags(tmp_path / "again", **TINY)]) == 1
    assert "not enough memory at step 1" in capsys.readouterr().err


def test_what_is_no_lack_of_memory_is_raised_as_it_is():
    errors = [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), TrainingStopped("out of memory, it says")]
    for error in errors:
        assert not is_out_of_memory(error)
        with pytest.raises(type(error), match=str(error)):
            memory.step_without_memory(error)
        with pytest.raises(type(error)), memory.fitting():
            raise error
    for size in (2**50, 2**62):
        with pytest.raises(UserError, match="not enough memory"), memory.fitting():
            torch.empty(size)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    torch.manual_seed(0)
    small = {"block_out_channels": (4, 4), "norm_num_groups": 2, "sample_size": 16}
    for channels in (1, 3, 4):
        AutoencoderVAE(in_channels=channels, **small).save_pretrained(folder / str(channels))
    AutoencoderVAE(in_channels=1, network="mlp", hidden_sizes=(4,), sample_size=16).save_pretrained(folder / "mlp")
    return folder


@pytest.mark.parametrize(
    ("teacher", "changes", "sentence"),
    [
        (
            "3",
            {"in_channels": 1},
            r"--teacher .*3 takes images of 3 channel\(s\), and the new model of 1: give --in_ch",
        ),
        ("4", {"in_channels": 3}, r"takes images of 4 channel\(s\), and the new model of 3"),
        ("mlp", {"resolution": 32}, "--teacher .*mlp takes images of 16 x 16 only: give --resolution 16"),
    ],
)
def test_a_teacher_with_other_images_is_refused(teacher, changes, sentence, teachers, tmp_path):
    words = {"model_type": "tiny", "teacher": os.path.join(teachers, teacher), "max_train_steps": 1}
    words |= {
        "resolution": 8,
        "circles_length": 8,
        "train_batch_size": 2,
        "output_dir": str(tmp_path / "out"),
        **changes,
    }
    with pytest.raises(UserError, match=sentence):
        built(build(FinetuneOptions, words))


def test_an_existing_model_and_its_teacher_have_the_same_channels(teachers, tmp_path):
    words = {"model_type": "tiny", "teacher": str(teachers / "1"), "max_train_steps": 1, "resolution": 8}
    words |= {"circles_length": 8, "train_batch_size": 2, "num_validation_images": 2, "lr_warmup_steps": 0}
    finetune.train(build(FinetuneOptions, words, output_dir=str(tmp_path / "gray")))
    words = {name: value for name, value in words.items() if name != "model_type"}
    again = {**words, "pretrained_model_name_or_path": str(tmp_path / "gray"), "teacher": str(teachers / "3")}
    with pytest.raises(UserError, match=r"takes images of 3 channel\(s\), and .*gray of 1: give --in_channels 3"):
        built(build(FinetuneOptions, again, output_dir=str(tmp_path / "out")))


def test_one_latent_vector_is_refused_before_the_first_step(tmp_path):
    one = {"circles_length": 1, "train_batch_size": 1, "max_train_steps": 1}
    for changes in ({"network": "mlp", "hidden_sizes": (4,)}, {"resolution": 8, "block_out_channels": (8, 8, 8, 8)}):
        with pytest.raises(UserError, match=r"one training image has one latent vector .* --latent_scaling keep"):
            built(options(tmp_path, **one, **changes))
    finetune.train(options(tmp_path, **one, network="mlp", hidden_sizes=(4,), latent_scaling="keep"))


EDGES = {
    int: (1, 2, 3, 97, 2**31 - 1),
    float: (0.0, 5e-324, 1.0, 3.4e38),
    str: ("x", "0", "1e-30", "os:getcwd", ":", "x:"),
}
ASKED = {"pretrained_model_name_or_path", "dataset_name", "teacher", "output_dir", "circles_length"}  # or takes minutes


@pytest.mark.parametrize("kind", [{}, {"model_type": "vqvae"}, {"reconstruction_loss": "l1", "disc_start": 0}], ids=str)
def test_a_run_with_values_at_the_edges_is_built_or_refused_in_one_sentence(kind, tmp_path):
    rng = random.Random(0)
    for name in rng.sample(sorted(options_of(FinetuneOptions).keys() - ASKED), 10):
        option = options_of(FinetuneOptions)[name]
        rules = option.declaration
        edges = rules.choices or [*EDGES.get(option.scalar, (True,)), rules.at_least, rules.at_most]
        known = [edge for edge in edges if edge is not None]
        for value in rng.sample(known, min(2, len(known))):
            message = refusal({**kind, name: (option.scalar(value),) if option.many else value}, tmp_path)
            assert "\n" not in message, message


def refusal(values, tmp_path):
    """The sentence that refuses a run, or nothing. Any other exception is a traceback for the user."""
    try:
        built(options(tmp_path, **values)).log.close()
    except UserError as error:
        return str(error)
    return ""
