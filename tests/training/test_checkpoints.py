"""Checkpoints are whole or not there."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from support.tiny_parts import tiny_checkpoint, tiny_parts
from support.trees import assert_equal
from vae_plugin import files
from vae_plugin.errors import UserError
from vae_plugin.training import checkpoints
from vae_plugin.training.best import Best
from vae_plugin.training.checkpoints import Content
from vae_plugin.training.parts import StateMismatch
from vae_plugin.training.state import TrainingState


@pytest.fixture
def parts():
    return tiny_parts(trainees=1, average=False)


def save(parts, output_dir, step, total_limit=None):
    return tiny_checkpoint(output_dir, step, parts=parts, total_limit=total_limit)


def test_state_and_options_come_back(tmp_path, parts):
    state = TrainingState(3, epoch=1, images_in_epoch=8, images=24, stream={"0": [1, 2, 3]}, best=Best("ssim", 0.5, 2))
    said = Content(state, {"seed": 1, "widths": [4, 4]}, {"rules": 2, "held_out": ["ü.png", "\udcff.png"], "n": {1: 2}})
    path = checkpoints.save_checkpoint(parts, tmp_path, said, None)
    assert path == tmp_path / "checkpoints" / "step-000003"
    found = checkpoints.read_checkpoint(path)
    assert (found.state, found.options) == (state, said.options)
    assert found.data == {**said.data, "n": {"1": 2}}
    assert found.files.keys() == {f"{n}.safetensors" for n in ("model", "optimizer", "scheduler", "random_states")}
    checkpoints.verify_checkpoint(path)


def test_the_states_come_back_to_the_bit(tmp_path):
    """What a run would draw and step next is the same; the moments lie in memory as the weights do."""
    before = tiny_parts(steps=3)
    path = tiny_checkpoint(tmp_path, 3, parts=before)
    expected = before.collect()
    drawn = [random.random(), np.random.rand(), torch.rand(()).item()]
    parts = tiny_parts(steps=1)
    parts.restore(checkpoints.read_states(path, checkpoints.read_checkpoint(path)))
    assert_equal(parts.collect(), expected)
    assert [random.random(), np.random.rand(), torch.rand(()).item()] == drawn
    moments = parts.trainees[0].optimizer.state_dict()["state"][0]["exp_avg"]
    assert moments.is_contiguous(memory_format=torch.channels_last)
    x = torch.randn(3, 2, 4, 4)
    for one, other in zip(before.trainees, parts.trainees, strict=True):
        assert one.update(one.module(x)) == other.update(other.module(x))
        assert_equal(one.module.state_dict(), other.module.state_dict())


def test_processes_that_are_new_keep_their_seed(tmp_path, parts, monkeypatch):
    trees = parts.collect()
    monkeypatch.setattr(Accelerator, "process_index", 1)
    torch.manual_seed(5)
    expected = torch.get_rng_state()
    parts.restore(trees)
    assert torch.equal(torch.get_rng_state(), expected)


def test_the_scale_of_float16_comes_back_and_a_run_may_begin_with_it(parts):
    without = parts.collect()
    parts.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=5)
    trees = parts.collect()
    parts.accelerator.scaler = torch.amp.GradScaler("cpu")
    parts.restore(without)
    assert parts.accelerator.scaler.get_scale() == 2.0**16
    parts.restore(trees)
    assert parts.accelerator.scaler.state_dict() == trees["scaler"]
    assert parts.accelerator.scaler.get_scale() == 8.0


class Engine:
    """DeepSpeed's, of which only these two are used."""

    def save_checkpoint(self, folder, name):
        (Path(folder) / name).mkdir()
        (Path(folder) / name / "mp_rank_00_model_states.pt").write_bytes(b"weights")

    def load_checkpoint(self, folder, name):
        self.loaded = Path(folder) / name


def test_deepspeed_reads_its_own_files_and_that_they_can_run_code_is_said(tmp_path, parts, capsys):
    without = save(parts, tmp_path / "without", 5)
    parts.by_engine, parts.trainees[0].module = True, Engine()
    path = save(parts, tmp_path, 5)
    content = checkpoints.read_checkpoint(path)
    assert "pytorch_model/mp_rank_00_model_states.pt" in content.files
    checkpoints.verify_checkpoint(path)
    assert checkpoints.read_states(path, content).keys() == {"scheduler", "random_states"}
    parts.load_engine(path)
    assert parts.trainees[0].module.loaded == path / "pytorch_model"
    assert "Continue only from a checkpoint of your own." in capsys.readouterr().out
    with pytest.raises(StateMismatch, match="written without DeepSpeed, and this run is with it"):
        parts.load_engine(without)
    parts.by_engine = False
    with pytest.raises(StateMismatch, match="written with DeepSpeed, and this run is without it"):
        parts.load_engine(path)
    (path / "pytorch_model" / "mp_rank_00_model_states.pt").write_bytes(b"others")
    with pytest.raises(UserError, match="the checksum of pytorch_model/mp_rank_00_model_states"):
        checkpoints.verify_checkpoint(path)


def test_only_the_newest_are_kept(tmp_path, parts):
    for step in (5, 10, 15, 1_000_000):
        save(parts, tmp_path, step, total_limit=2)
    assert [p.name for p in checkpoints.list_checkpoints(tmp_path)] == ["step-000015", "step-1000000"]
    assert checkpoints.find_checkpoint(tmp_path, "latest").name == "step-1000000"


def test_what_was_cut_off_while_writing_is_not_a_checkpoint_and_is_cleared_away(tmp_path, parts, monkeypatch):
    save(parts, tmp_path, 5)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_tree", full)
    with pytest.raises(OSError, match="No space left"):
        save(parts, tmp_path, 10)
    monkeypatch.undo()
    assert [p.name for p in checkpoints.list_checkpoints(tmp_path)] == ["step-000005"]
    save(parts, tmp_path, 10)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-000005", "step-000010"]


def test_the_oldest_goes_only_after_the_newest_is_there(tmp_path, parts, monkeypatch):
    save(parts, tmp_path, 5, total_limit=1)
    monkeypatch.setattr(checkpoints, "finish_partial", lambda path: (_ for _ in ()).throw(OSError("rename failed")))
    with pytest.raises(OSError, match="rename failed"):
        save(parts, tmp_path, 10, total_limit=1)
    assert [p.name for p in checkpoints.list_checkpoints(tmp_path)] == ["step-000005"]


def test_what_was_just_written_is_kept_where_a_run_goes_on_from_before_the_newest(tmp_path, parts):
    for step in (5, 10, 6):
        save(parts, tmp_path, step, total_limit=1 if step == 6 else None)
    assert [p.name for p in checkpoints.list_checkpoints(tmp_path)] == ["step-000006", "step-000010"]


def test_a_name_a_path_or_latest(tmp_path, parts):
    assert checkpoints.find_checkpoint(tmp_path, "latest") is None
    path = save(parts, tmp_path, 5)
    assert checkpoints.find_checkpoint(tmp_path, "step-000005") == path
    assert checkpoints.find_checkpoint(tmp_path / "elsewhere", str(path)) == path
    with pytest.raises(UserError, match=r"step-000007: no checkpoint there; .* has: step-000005"):
        checkpoints.find_checkpoint(tmp_path, "step-000007")


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "metrics.json"
    files.write_json(path, {"psnr": 1.0})
    with pytest.raises(ValueError, match="JSON has no such number"):
        files.write_json(path, {"psnr": float("nan")})
    assert json.loads(path.read_text()) == {"psnr": 1.0}
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]
