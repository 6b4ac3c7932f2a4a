"""What the images of a run are is said at its start or its end, and too many that cannot be read stop it."""

import io
import tarfile
from itertools import islice

import pytest
from accelerate import Accelerator
from PIL import Image

from vae_plugin import finetune
from vae_plugin.datasets import DataRules, survey
from vae_plugin.datasets.members import DataRecord
from vae_plugin.errors import TrainingStopped, UserError
from vae_plugin.options import build
from vae_plugin.training.data import TrainingData
from vae_plugin.training.failures import StepFailed
from vae_plugin.training.intake import Enlarged, Intake
from vae_plugin.training.settings import FinetuneOptions, OptimizationSettings
from vae_plugin.training.state import TrainingState


def write(folder, sizes):
    folder.mkdir(exist_ok=True)
    for i, size in enumerate(sizes):
        Image.new("RGB", size, (i, 0, 0)).save(folder / f"{i:03d}.png")
    return folder


def write_tar(path, sizes, unreadable=()):
    with tarfile.open(path, "w") as archive:
        for i, size in enumerate(sizes):
            file = io.BytesIO()
            Image.new("RGB", size, (i, 0, 0)).save(file, "PNG")
            content = b"no image" if i in unreadable else file.getvalue()
            info = tarfile.TarInfo(f"{i:03d}.png")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def open_data(folder, record=None, **changes):
    optimization = OptimizationSettings(train_batch_size=4)
    settings = build(FinetuneOptions, {"train_data_dir": str(folder), "output_dir": "x", **changes}).data
    settings.resolution = settings.resolution or 16
    return TrainingData(settings, optimization, 3, Accelerator(cpu=True), record or DataRecord())


def test_what_was_found_is_counted_by_reason(tmp_path):
    folder = write(tmp_path / "a", [(20, 30)] * 30 + [(30, 12)] * 5 + [(8, 40)] * 2)
    for name in ("1.HEIC", "2.heic", "notes.txt", "LICENSE"):
        (folder / name).write_bytes(b"text")
    (folder / "000.png").write_bytes(b"no image")
    notes = open_data(folder).notes
    assert notes == (
        f"{folder}: 41 found, 36 usable, 2 HEIC, 1 TXT, 1 without an ending, 1 unreadable.",
        "7 of 37 images are smaller than --resolution 16 and are enlarged (the smallest has 8 pixels): "
        "--min_image_size 16 leaves them out.",
    )
    data = open_data(folder, min_image_size=12)
    assert "2 too small" in data.notes[0]
    assert len(data.train) + len(data.validation) == 35
    assert open_data(folder, min_image_size=16).notes[1:] == ()
    with pytest.raises(UserError, match=r"no image in .* has 99 pixels along its shorter side"):
        open_data(folder, min_image_size=99)


def test_too_many_that_cannot_be_read_are_refused_at_the_start(tmp_path):
    folder = write(tmp_path / "a", [(16, 16)] * 20)
    for i in range(3):
        (folder / f"{i:03d}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"17 usable, 3 unreadable, more than --max_unreadable 0\.1 allows \(the first"):
        open_data(folder)
    assert open_data(folder, max_unreadable=0.15).size == 18
    assert open_data(folder, record=DataRecord(DataRules(1))).size == 18  # as release 0.1 went on


def test_images_too_many_to_look_at_are_counted_on_the_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(survey, "LOOKED_OVER", 10)
    data = open_data(write(tmp_path / "a", [(16, 16)] * 10 + [(8, 9)] * 10), num_validation_images=1)
    assert data.notes == (f"{tmp_path / 'a'}: 20 found, 20 to be read.",)
    for batch in islice(data.batches(TrainingState(), lambda count, *_: (count, 1)), 4):
        assert batch.images.shape == (4, 3, 16, 16)
    data.report_unreadable()
    assert (
        "of 16 images are smaller than --resolution 16 and are enlarged (the smallest has 8" in capsys.readouterr().out
    )


def test_streamed_small_images_are_counted_or_left_out(tmp_path, capsys):
    write_tar(tmp_path / "a.tar", [(16, 16)] * 10 + [(8, 9)] * 10)
    for smallest in (None, 9):
        more = {} if smallest is None else {"min_image_size": smallest}
        data = open_data(tmp_path, streaming=True, max_train_steps=4, num_validation_images=2, **more)
        for batch in islice(data.batches(TrainingState(), lambda count, *_: (count, 1)), 9):
            colours = ((batch.images[:, 0, 0, 0] + 1) * 127.5).round()
            assert smallest is None or colours.max() < 10
        data.report_unreadable()
        assert ("and are enlarged (the smallest has 8 pixels)" in capsys.readouterr().out) == (smallest is None)
    data = open_data(tmp_path, streaming=True, max_train_steps=4, num_validation_images=12, min_image_size=9)
    assert len(data.validation) == 10
    assert len(data.record.held_out) == 12


def test_counts_are_judged_once_there_are_enough():
    for size, unreadable, stops in ((None, 11, True), (None, 10, False), (30, 3, False), (30, 4, True)):
        intake = Intake(0.1, 16, size)
        total = size or 100
        intake.check(total - unreadable - 1, unreadable)
        if stops:
            with pytest.raises(StepFailed, match=rf"{unreadable} of the {total} images read so far cannot be read"):
                intake.check(total - unreadable, unreadable)
        else:
            intake.check(total - unreadable, unreadable)
    intake.add(4, {"unreadable": ["a"], "lost": 7, "sides": [3, 20, 16, 15]})
    assert (intake.read, intake.unreadable) == (4, 8)
    intake.merge([intake.enlarged, Enlarged(1, 4, 2)])
    assert intake.enlarged == Enlarged(3, 8, 2)


def test_data_that_cannot_be_read_at_all_stop_the_run_with_a_checkpoint(tmp_path):
    """As where the connection to a stream is lost."""
    (tmp_path / "data").mkdir()
    write_tar(tmp_path / "data" / "a.tar", [(8, 8)] * 90, unreadable=range(40, 90))
    changes = {
        "train_data_dir": str(tmp_path / "data"), "streaming": True, "shuffle_buffer": 4, "num_validation_images": 2,
        "resolution": 8, "network": "mlp", "hidden_sizes": (4,), "train_batch_size": 4, "max_train_steps": 30,
        "checkpointing_steps": 1000, "output_dir": str(tmp_path / "out"), "max_unreadable": 1.0,
    }  # fmt: skip
    with pytest.raises(TrainingStopped, match=r"^none of 4 .* at step (\d+): .* is .*step-0+\1\. Continue with"):
        finetune.train(build(FinetuneOptions, changes))
    assert len(list((tmp_path / "out" / "checkpoints").iterdir())) == 1


def test_a_run_stops_with_a_checkpoint_and_goes_on_where_more_is_allowed(tmp_path):
    (tmp_path / "data").mkdir()
    write_tar(tmp_path / "data" / "a.tar", [(8, 8)] * 120, unreadable=range(40, 120, 3))
    changes = {
        "train_data_dir": str(tmp_path / "data"), "streaming": True, "shuffle_buffer": 4, "num_validation_images": 2,
        "resolution": 8, "network": "mlp", "hidden_sizes": (4,), "train_batch_size": 8, "max_train_steps": 30,
        "checkpointing_steps": 1000, "output_dir": str(tmp_path / "out"),
    }  # fmt: skip
    with pytest.raises(
        TrainingStopped, match=r"--max_unreadable 0\.1 allows at step (\d+): .*is .*step-0+\1\..*or allow"
    ):
        finetune.train(build(FinetuneOptions, changes))
    assert len(list((tmp_path / "out" / "checkpoints").iterdir())) == 1
    more = {"resume_from_checkpoint": "latest", "max_unreadable": 1.0}
    assert finetune.train(build(FinetuneOptions, {**changes, **more}))["steps"] == 30
