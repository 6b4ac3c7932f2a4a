"""A run that is cut ends bit for bit like one that is not, wherever it is cut."""

import shutil

import pytest
import torch
from PIL import Image

from support.runs import options
from vae_plugin import finetune


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
