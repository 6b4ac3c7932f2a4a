"""A run that is cut ends bit for bit like one that is not, wherever it is cut."""

import os
import re
import resource
import shutil
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image

from support.kills import killed_at
from support.runs import options
from vae_plugin import files, finetune
from vae_plugin.errors import TrainingStopped, UserError
from vae_plugin.files import settle
from vae_plugin.locks import FolderLock
from vae_plugin.options import parse
from vae_plugin.training.settings import FinetuneOptions

OLD = Path(__file__).resolve().parent.parent / "fixtures" / "release-0.1"


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(24):
        pixels = torch.randint(0, 255, (20, 30, 3), generator=torch.Generator().manual_seed(i), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{i:02d}.png")
    return folder


def run(output_dir, photos, **changes):
    """Three epochs of random crops, and a checkpoint after the last step only."""
    small = {"block_out_channels": (4, 4), "norm_num_groups": 2, "num_validation_images": 2, "train_batch_size": 10}
    data = {"train_data_dir": str(photos), "random_flip": True, "max_train_steps": 6, "use_ema": True}
    return finetune.train(options(output_dir, **small, **data, **changes))


def result(output_dir):
    """Everything that a run leaves, but what it may be continued from."""
    files = [path for path in output_dir.rglob("*") if path.is_file()]
    names = {path.relative_to(output_dir).as_posix(): path for path in files}
    other = ("checkpoints/", "logs/", ".lock")
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(other)}


def without_result(output_dir, to):
    """A copy in which the run was killed after its last checkpoint."""
    for name in ("checkpoints", "logs"):
        shutil.copytree(output_dir / name, to / name)
    return to


OBJECTIVES = (
    {"num_importance_samples": 3},
    {"tc_weight": 3.0, "beta": 2.0, "kl_warmup_steps": 4},
    {"free_bits": 0.1},
    {"likelihood": "logistic_mixture", "num_mixtures": 2},
    {"model_type": "vqvae", "codebook_size": 16},
)


@pytest.mark.parametrize("changes", OBJECTIVES, ids=lambda changes: next(iter(changes)))
def test_killed_after_its_last_checkpoint_whatever_it_minimises(tmp_path, photos, changes):
    out, cut = tmp_path / "a", tmp_path / "b"
    metrics = run(out, photos, validation_steps=2, **changes)
    assert (
        run(without_result(out, cut), photos, validation_steps=2, resume_from_checkpoint="latest", **changes) == metrics
    )
    weights = "diffusion_pytorch_model.safetensors"
    assert (cut / weights).read_bytes() == (out / weights).read_bytes()


def test_killed_after_its_last_checkpoint_or_finished_and_continued(tmp_path, photos):
    out, cut = tmp_path / "a" / "out", tmp_path / "b" / "out"
    metrics = run(out, photos)
    expected = result(out)
    assert {"config.json", "diffusion_pytorch_model.safetensors", "metrics.json", "run.json", "README.md"} <= set(
        expected
    )
    assert run(without_result(out, cut), photos, resume_from_checkpoint="latest") == metrics
    there = result(cut)
    assert there.keys() == expected.keys()
    for name, content in expected.items():
        if name == "training_options.yaml":
            content = content.replace(str(out).encode(), str(cut).encode())
        assert there[name] == content, name
    run(out, photos, resume_from_checkpoint="latest")
    assert result(out) == expected


@pytest.mark.slow
def test_killed_while_its_result_appears_it_is_the_old_or_the_new_one(tmp_path, photos, monkeypatch):
    """Before and after the rename that decides, and at the last of those that follow."""
    out, cut = tmp_path / "a" / "out", tmp_path / "b" / "out"
    run(out, photos)
    expected = result(out)
    new = {name for name in expected if name not in ("data.json", "training_options.yaml")}
    without_result(out, cut)
    for name in ("config.json", "diffusion_pytorch_model.safetensors", "metrics.json", "run.json"):
        (cut / name).write_text("{}")
    before = result(cut)
    renamed = []
    with monkeypatch.context() as patch:
        for name in ("replace", "rename"):
            real = getattr(os, name)
            patch.setattr(
                os, name, lambda *paths, real=real: renamed.append(os.path.basename(paths[1])) or real(*paths)
            )
        run(out, photos, resume_from_checkpoint="latest")
    decides = renamed.index(".result") + 1
    assert len(renamed) - decides == len(new) + 1  # the options are among them
    for number in (decides, decides + 1, len(renamed), len(renamed) + 1):
        killed = killed_at(number, lambda: run(cut, photos, resume_from_checkpoint="latest"))
        assert killed == (number <= len(renamed))
        settle(cut)
        there = result(cut)
        if number <= decides:
            assert {name: there[name] for name in before} == before
        else:
            assert {name: there[name] for name in new} == {name: expected[name] for name in new}
    assert not [path for path in cut.rglob("*") if "partial" in path.name or path.name == ".result"]


def test_a_second_run_is_refused_and_the_folder_is_free_when_the_first_has_ended(tmp_path, photos):
    lock = FolderLock(tmp_path)
    assert lock.take()
    with pytest.raises(UserError, match=r"another run is writing into .*: wait until it has ended, or give another"):
        run(tmp_path, photos)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "photos"]
    lock.release()
    with pytest.raises(UserError, match="do not fill one step"):
        run(tmp_path, photos, gradient_accumulation_steps=100)
    assert lock.take()


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("out/logs/base.json.partial", "the measures of the model before its first step"),
        ("out/samples/step-000001-reconstructions.png.partial", "a picture"),
        ("out/best.partial/diffusion_pytorch_model.safetensors", "the best model"),
        ("step-000001.partial/optimizer.safetensors", "the checkpoint"),
        ("lora/pytorch_lora_weights.safetensors", "the result"),
        ("out/.result.partial/samples/extremes.png.partial", "a picture"),
        ("out/.result.partial", "the result"),
    ],
)
def test_a_full_disk_is_one_sentence_wherever_it_is_met(tmp_path, monkeypatch, path, what):
    """And there is no half of a result."""
    real = files._sync

    def full(file):
        if file.as_posix().endswith(path):
            raise OSError(28, "No space left on device")
        real(file)

    monkeypatch.setattr(files, "_sync", full)
    small = {"max_train_steps": 1, "resolution": 16, "train_batch_size": 4, "circles_length": 20}
    base = {"pretrained_model_name_or_path": str(OLD / "base-kl"), "validation_steps": 1, "lora_rank": 1}
    with pytest.raises(TrainingStopped) as raised:
        finetune.train(options(tmp_path / "out", **small, **base))
    said = str(raised.value)
    assert re.match(rf"{what} cannot be written to \S+ \(No space left on device\) at step [01]: ", said), said
    assert said.endswith(" Make room on the disk.")
    assert "\n" not in said
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left <= {".lock", "logs", "samples", "best", "checkpoints", "lora.partial"}


def test_a_full_disk_in_the_words_of_the_system(tmp_path, photos):
    """A limit on the size of files, as a quota: the largest of the result does not fit."""
    out, cut = tmp_path / "a" / "out", tmp_path / "b" / "out"
    run(out, photos)
    expected = result(out)
    without_result(out, cut)
    child = os.fork()
    if child == 0:
        try:
            largest = max(map(len, expected.values()))
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, largest - 1))
            run(cut, photos, resume_from_checkpoint="latest")
        except TrainingStopped as error:
            (tmp_path / "said").write_text(str(error))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    said = (tmp_path / "said").read_text()
    assert re.match("(the result|a picture) cannot be written to ", said), said
    assert "(File too large) at step 6: training stopped, the last good checkpoint is " in said
    run(cut, photos, resume_from_checkpoint="latest")
    there = result(cut)
    assert {name for name in expected if there[name] != expected[name]} <= {"training_options.yaml", "data.json"}


def test_a_run_goes_on_where_its_folder_was_moved_to(tmp_path, photos, monkeypatch, capsys):
    """From the file of options in it, which names the old place, with a base model and a checkpoint inside."""
    monkeypatch.chdir(tmp_path)
    old, new = tmp_path / "old" / "out", tmp_path / "new" / "out"
    shutil.copytree(OLD / "base-kl", old / "base")
    small = {"max_train_steps": 2, "resolution": 16, "train_batch_size": 10, "checkpointing_steps": 1}
    finetune.train(options(old, **small, pretrained_model_name_or_path=str(old / "base"), train_data_dir=str(photos)))
    expected = result(old)
    new.parent.mkdir()
    (tmp_path / "old").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "out").rename(new)
    words = ["--config", "new/out/training_options.yaml", "--resume_from_checkpoint"]
    for checkpoint in ("latest", str(old / "checkpoints" / "step-000001")):
        AcceleratorState._reset_state()
        finetune.main([*words, checkpoint], "finetune.py")
        assert not old.exists()
        for name, content in expected.items():
            if name.endswith((".safetensors", ".png")):
                assert (new / name).read_bytes() == content, name
    said = capsys.readouterr()
    assert "the output folder is new/out, where the options are; they were written in" in said.err
    assert "step-000001 is gone: taking new/out/checkpoints/step-000001." in said.out
    words = parse(FinetuneOptions, ["--config", "new/out/training_options.yaml"])
    assert words.output.output_dir == "new/out"


def test_a_file_of_options_means_what_it_says_where_nothing_is_continued(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "training_options.yaml"
    file.write_text("output_dir: there\ndataset_name: circles\n")
    words = ["--config", str(file)]
    assert parse(FinetuneOptions, words).output.output_dir == "there"
    flag = [*words, "--resume_from_checkpoint", "latest", "--output_dir", "flag"]
    assert parse(FinetuneOptions, flag).output.output_dir == "flag"
    assert parse(FinetuneOptions, [*words, "--resume_from_checkpoint", "latest"]).output.output_dir == str(tmp_path)
    copied = tmp_path / "mine.yaml"
    file.rename(copied)
    mine = ["--config", str(copied), "--resume_from_checkpoint", "latest"]
    assert parse(FinetuneOptions, mine).output.output_dir == "there"
