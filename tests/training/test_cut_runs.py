"""A run that is cut ends bit for bit like one that is not, wherever it is cut."""

import shutil
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image

from support.runs import options
from vae_plugin import finetune
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
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(("checkpoints/", "logs/"))}


def without_result(output_dir, to):
    """A copy in which the run was killed after its last checkpoint."""
    for name in ("checkpoints", "logs"):
        shutil.copytree(output_dir / name, to / name)
    return to


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
