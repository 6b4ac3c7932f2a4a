"""Checkpoints are whole or not there."""

import json

import pytest
from accelerate import Accelerator

from vae_plugin import files
from vae_plugin.errors import UserError
from vae_plugin.training import checkpoints
from vae_plugin.training.state import TrainingState


@pytest.fixture
def accelerator():
    return Accelerator(cpu=True)


def save(accelerator, output_dir, step, total_limit=None):
    return checkpoints.save_checkpoint(accelerator, output_dir, TrainingState(step=step), {"seed": 1}, total_limit, {})


def test_state_and_options_come_back(tmp_path, accelerator):
    state = TrainingState(step=3, epoch=1, images_in_epoch=8, images=24)
    path = checkpoints.save_checkpoint(accelerator, tmp_path, state, {"seed": 1}, None, {"rules": 2})
    assert path == tmp_path / "checkpoints" / "step-000003"
    assert checkpoints.read_checkpoint(path) == checkpoints.Content(state, {"seed": 1}, {"rules": 2})


def test_only_the_newest_are_kept(tmp_path, accelerator):
    for step in (5, 10, 15, 1_000_000):
        save(accelerator, tmp_path, step, total_limit=2)
    assert [p.name for p in checkpoints.list_checkpoints(tmp_path)] == ["step-000015", "step-1000000"]
    assert checkpoints.find_checkpoint(tmp_path, "latest").name == "step-1000000"


def test_what_was_cut_off_while_writing_is_not_a_checkpoint_and_is_cleared_away(tmp_path, accelerator, monkeypatch):
    save(accelerator, tmp_path, 5)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Accelerator, "save_state", full)
    with pytest.raises(OSError, match="No space left"):
        save(accelerator, tmp_path, 10)
    monkeypatch.undo()
    assert [p.name for p in checkpoints.list_checkpoints(tmp_path)] == ["step-000005"]
    save(accelerator, tmp_path, 10)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-000005", "step-000010"]


def test_the_oldest_goes_only_after_the_newest_is_there(tmp_path, accelerator, monkeypatch):
    save(accelerator, tmp_path, 5, total_limit=1)
    monkeypatch.setattr(checkpoints, "finish_partial", lambda path: (_ for _ in ()).throw(OSError("rename failed")))
    with pytest.raises(OSError, match="rename failed"):
        save(accelerator, tmp_path, 10, total_limit=1)
    assert [p.name for p in checkpoints.list_checkpoints(tmp_path)] == ["step-000005"]


def test_a_name_a_path_or_latest(tmp_path, accelerator):
    assert checkpoints.find_checkpoint(tmp_path, "latest") is None
    path = save(accelerator, tmp_path, 5)
    assert checkpoints.find_checkpoint(tmp_path, "step-000005") == path
    assert checkpoints.find_checkpoint(tmp_path / "elsewhere", str(path)) == path
    with pytest.raises(UserError, match=r"step-000007: no checkpoint there; .* has: step-000005"):
        checkpoints.find_checkpoint(tmp_path, "step-000007")


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "metrics.json"
    files.write_json(path, {"psnr": 1.0})
    with pytest.raises(ValueError, match="Out of range float"):
        files.write_json(path, {"psnr": float("nan")})
    assert json.loads(path.read_text()) == {"psnr": 1.0}
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]
