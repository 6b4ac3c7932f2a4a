"""Training on shards that are read in order."""

import io
import shutil
import sys
import tarfile

import pytest
import torch
from PIL import Image

from support.runs import LIKE_SGD, SCRIPT, assert_alike, assert_same, finish, flags, options, start, weights
from vae_plugin import finetune
from vae_plugin.errors import UserError

STREAMED = {"dataset_name": None, "streaming": True, "shuffle_buffer": 16, "in_channels": 3}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    generator = torch.Generator().manual_seed(0)
    for shard in range(4):
        with tarfile.open(folder / f"data-{shard:05d}.tar", "w") as archive:
            for i in range(15 + shard):
                coarse = torch.rand(1, 3, 3, 4, generator=generator)
                image = torch.nn.functional.interpolate(coarse, (16, 22), mode="bilinear")[0]
                file = io.BytesIO()
                Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy()).save(file, "PNG")
                info = tarfile.TarInfo(f"{shard}-{i}.png")
                info.size = len(file.getvalue())
                archive.addfile(info, io.BytesIO(file.getvalue()))
    return folder


@pytest.mark.slow
def test_a_resumed_stream_ends_bit_for_bit_like_an_uninterrupted_one(shards, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    changes = {**STREAMED, "train_data_dir": str(shards), "gradient_accumulation_steps": 2, "random_flip": True}
    finetune.train(options(whole, **changes))
    shutil.copytree(whole / "checkpoints" / "step-000005", resumed / "checkpoints" / "step-000005")
    finetune.train(options(resumed, **changes, resume_from_checkpoint="latest"))
    assert_same(weights(whole), weights(resumed))


@pytest.mark.slow
def test_two_processes_read_what_one_does(shards, tmp_path):
    """And one goes on from the checkpoint of two as one that was alone from the beginning."""
    changes = {**STREAMED, "train_data_dir": str(shards), **LIKE_SGD}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", SCRIPT]
    two_changes = {k: v for k, v in changes.items() if v is not None}
    two = start(launch, *flags(tmp_path / "two", **{**two_changes, "train_batch_size": 4}))
    finetune.train(options(tmp_path / "one", **changes))
    finish(two)
    assert_alike(tmp_path / "one", tmp_path / "two")
    shutil.copytree(
        tmp_path / "two" / "checkpoints" / "step-000005", tmp_path / "later" / "checkpoints" / "step-000005"
    )
    finetune.train(options(tmp_path / "later", **changes, resume_from_checkpoint="latest"))
    whole, later = weights(tmp_path / "one"), weights(tmp_path / "later")
    for name in whole:
        torch.testing.assert_close(whole[name], later[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"streaming": True}, "--streaming has no effect on generated circles"),
        ({"streaming": True, "dataset_name": "someone/images", "max_train_steps": None}, "give --max_train_steps"),
        (
            {"streaming": True, "dataset_name": "someone/images", "max_train_samples": 9},
            "--max_train_samples has no effect with --streaming",
        ),
    ],
)
def test_what_a_stream_cannot_do(changes, words, tmp_path):
    with pytest.raises(UserError, match=words):
        options(tmp_path, **changes)
