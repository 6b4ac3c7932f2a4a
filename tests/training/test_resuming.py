"""What a run takes over from its checkpoint before its parts are built."""

from dataclasses import replace

import pytest
from accelerate import Accelerator
from PIL import Image

from support.tiny_parts import tiny_parts
from vae_plugin.datasets import LATEST, DataRules
from vae_plugin.datasets.members import DataRecord
from vae_plugin.errors import UserError
from vae_plugin.options import build
from vae_plugin.training import checkpoints
from vae_plugin.training.data import TrainingData
from vae_plugin.training.resuming import Beginning, find_beginning
from vae_plugin.training.settings import DataSettings, FinetuneOptions, OptimizationSettings
from vae_plugin.training.state import TrainingState


@pytest.fixture
def accelerator():
    return Accelerator(cpu=True)


@pytest.fixture
def saved(tmp_path):
    """Writes a checkpoint with this section on the data, which is empty in those of release 0.1."""

    def save(data):
        content = checkpoints.Content(TrainingState(step=3), {}, data)
        checkpoints.save_checkpoint(tiny_parts(trainees=1, average=False), tmp_path, content, None)
        return tmp_path

    return save


@pytest.mark.parametrize(("data", "version"), [({}, 1), ({"rules": 1}, 1), ({"rules": 2}, 2)])
def test_the_rules_of_the_data_are_those_of_the_checkpoint(saved, accelerator, data, version):
    beginning = find_beginning(accelerator, saved(data), "latest")
    assert beginning.state.step == 3
    assert beginning.data.rules == DataRules(version)


@pytest.mark.parametrize("version", [0, LATEST.version + 1, "2", None, [1]])
def test_rules_that_are_not_known_are_refused(saved, accelerator, version):
    with pytest.raises(UserError, match=f"knows 1 to {LATEST.version}"):
        find_beginning(accelerator, saved({"rules": version}), "latest")


def test_a_new_run_goes_by_the_latest_rules(tmp_path, accelerator):
    for resume_from in (None, "latest"):
        assert find_beginning(accelerator, tmp_path, resume_from).data == DataRecord()


@pytest.mark.parametrize("version", [1, 2])
def test_the_rules_reach_the_images_and_the_next_checkpoint(tmp_path, accelerator, version):
    for i in range(20):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    settings = DataSettings(train_data_dir=str(tmp_path), resolution=8, num_validation_images=2)
    data = TrainingData(
        settings, OptimizationSettings(train_batch_size=1), 3, accelerator, DataRecord(DataRules(version))
    )
    assert data.train.reader.rules == data.validation.reader.rules == DataRules(version)
    assert data.record.to_dict()["rules"] == version


def test_a_checkpoint_that_names_no_images_keeps_where_they_are(saved, accelerator):
    """As release 0.1 wrote it: another place may hold other images."""
    parts = tiny_parts(trainees=1, average=False)
    out = saved({})

    def restore(record, **options):
        checkpoint = out / "checkpoints" / "step-000003"
        said = replace(
            checkpoints.read_checkpoint(checkpoint),
            options={"train_data_dir": "photographs", "fourth_channel": "alpha"},
        )
        beginning = Beginning(said.state, record, checkpoint, said)
        beginning.restore(parts, build(FinetuneOptions, {"output_dir": str(out), **options}))

    restore(DataRecord(), train_data_dir="photographs")
    with pytest.raises(UserError, match=r"--train_data_dir was photographs and is now elsewhere.*--allow_changed_data"):
        restore(DataRecord(), train_data_dir="elsewhere")
    allowed = {"resume_from_checkpoint": "latest", "allow_changed_data": True}
    restore(DataRecord(), train_data_dir="elsewhere", **allowed)
    restore(DataRecord(digest="0"), train_data_dir="elsewhere")


@pytest.mark.parametrize("version", [1, 2])
def test_max_train_samples_draws_by_the_seed_under_the_present_rules(tmp_path, accelerator, version):
    for i in range(40):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i:02d}.png")
    settings = DataSettings(train_data_dir=str(tmp_path), resolution=8, num_validation_images=4, max_train_samples=9)
    data = TrainingData(
        settings, OptimizationSettings(train_batch_size=1), 3, accelerator, DataRecord(DataRules(version))
    )
    assert (list(data.train.indices) == list(range(9))) == (version == 1)
    assert len(set(data.train.indices)) == 9
