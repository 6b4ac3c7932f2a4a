"""What happens beside training, and when: intervals, counts, curves, and lines of progress."""

import json
import math
from itertools import pairwise

import pytest
from accelerate import Accelerator

from vae_plugin.training.checkpoints import Content, stopped
from vae_plugin.training.failures import StepFailed
from vae_plugin.training.hooks import CheckpointHook, Hook, LogHook, Step
from vae_plugin.training.hooks.log import CurveLog
from vae_plugin.training.progress import Progress, Stopwatch
from vae_plugin.training.state import TrainingState


class Counting(Hook):
    def __init__(self, every):
        super().__init__(every)
        self.acted = []

    def act(self, step):
        self.acted.append(step.number)


@pytest.mark.parametrize(("every", "expected"), [(None, []), (1, [1, 2, 3, 4, 5, 6]), (3, [3, 6]), (4, [4]), (9, [])])
def test_a_hook_knows_its_interval(every, expected):
    hook = Counting(every)
    for number in range(1, 7):
        hook.after_step(Step(number, number == 6, {}))
    assert hook.acted == expected


def test_the_state_counts_images_and_keeps_the_positions_of_a_stream():
    state = TrainingState()
    state.saw(8, {0: (0, 1, 2)})
    state.saw(8, {1: (3, 4, 5)})
    state.saw(8, {0: (0, 1, 9)})
    assert (state.images, state.images_in_epoch) == (24, 24)
    assert state.stream == {"0": [0, 1, 9], "1": [3, 4, 5]}
    assert (state.step, state.epoch, state.best.value) == (0, 0, None)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_log_gets_a_line_every_ten_seconds_and_one_at_the_end(capsys):
    """900 steps of 0.1 s: some nine lines, not a megabyte of carriage returns."""
    clock = Clock()
    progress = Progress(900, clock=clock)
    for _ in range(900):
        clock.now += 0.1
        progress.step({"loss": "0.5"})
    progress.close()
    written = capsys.readouterr().err
    assert "\r" not in written
    lines = written.splitlines()
    steps = [int(line.split()[1].replace(",", "")) for line in lines]
    assert 9 <= len(steps) <= 10
    assert all(later - earlier >= 100 for earlier, later in pairwise(steps[:-1]))
    assert lines[-1] == "step 900 of 900, loss 0.5"


def test_fast_steps_are_one_line_in_a_log(capsys):
    progress = Progress(50, 40, clock=Clock())
    for _ in range(10):
        progress.step({})
    assert capsys.readouterr().err == "step 50 of 50\n"


def test_other_processes_say_nothing(capsys):
    progress = Progress(3, visible=False, clock=Clock())
    for _ in range(3):
        progress.step({"loss": "1"})
    progress.close()
    assert capsys.readouterr().err == ""


def test_on_a_terminal_there_is_a_bar(capsys, monkeypatch):
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = Progress(3, clock=Clock())
    for _ in range(3):
        progress.step({"loss": "1"})
    progress.close()
    written = capsys.readouterr().err
    assert "3/3" in written
    assert "step 3 of 3" not in written


def test_a_stopwatch_does_not_count_what_is_paused(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)
    stopwatch = Stopwatch()
    clock.now = 5.0
    with stopwatch:
        clock.now = 12.0
    clock.now = 15.0
    assert stopwatch.seconds == pytest.approx(8.0)


def test_what_a_crash_or_a_person_left_in_a_log_stops_no_run(tmp_path):
    path = tmp_path / "train.jsonl"
    good = b'{"step": 0, "loss": 9.0}\n'
    for damage in (
        b"\0\0\0\n",
        b"\xff\xfe\n",
        b"# a word\n",
        b"[1]\n",
        b'{"loss": 1}\n',
        b'{"step": "x"}\n',
        b"[" * 9999,
    ):
        path.write_bytes(good + damage)
        CurveLog(path, 5).close()
        assert path.read_bytes() == good


@pytest.fixture
def log(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)
    path = tmp_path / "logs" / "train.jsonl"
    path.parent.mkdir()
    path.write_text('{"step": 0, "loss": 9.0}\n{"step": 1, "loss": 8.0}\n{"step": 2, "loss": 7.0}\n{"step": 3, "lo')
    state = TrainingState(step=2, images=16)
    hook = LogHook(Accelerator(cpu=True), state, path, Progress(4, 2), Stopwatch(), lambda: 0.25)
    return hook, state, path, clock


def test_a_continued_log_replaces_the_lines_from_where_it_continues(log):
    hook, _, path, _ = log
    hook.after_step(Step(3, False, {"loss": 1.0, "mse": 0.04, "elbo_nats": -5.0}))
    hook.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert hook.curves._file.closed
    assert lines[2] == {
        "step": 2,
        "loss": 1.0,
        "elbo_nats": -5.0,
        "psnr": pytest.approx(10 * math.log10(4 / 0.04)),
        "learning_rate": 0.25,
    }


def test_an_exact_reconstruction_has_a_finite_psnr(log):
    hook, _, path, _ = log
    hook.after_step(Step(3, False, {"loss": 1.0, "mse": 0.0}))
    assert json.loads(path.read_text().splitlines()[-1])["psnr"] == pytest.approx(10 * math.log10(4e10))


def test_time_and_images_per_second_go_on_where_the_checkpoint_stood(log):
    """Images from before they were timed, as in checkpoints of release 0.1, do not count."""
    hook, state, path, clock = log
    assert state.images_per_second is None
    state.saw(24, {})
    clock.now = 3.0
    hook.after_step(Step(3, False, {"loss": 1.0, "mse": 0.1}))
    assert (state.seconds, state.timed_images, state.images_per_second) == (3.0, 24, pytest.approx(8.0))
    goes_on = LogHook(hook.accelerator, state, path, Progress(4, 3), Stopwatch(state.seconds), lambda: 0.25)
    state.saw(12, {})
    clock.now = 4.0
    goes_on.after_step(Step(4, False, {"loss": 1.0, "mse": 0.1}))
    assert (state.seconds, state.timed_images, state.images_per_second) == (4.0, 36, pytest.approx(9.0))


def test_checkpoints_are_saved_once_for_a_step(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(
        "vae_plugin.training.hooks.checkpoint.save_checkpoint",
        lambda parts, output_dir, content, limit: saved.append((content.state.step, content.data, limit)),
    )
    state = TrainingState(step=2)
    hook = CheckpointHook(None, Content(state, {"seed": 1}, {"rules": 2}), tmp_path, every=2, total_limit=3)
    hook.save()  # nothing was done since the checkpoint that the run continues from
    for state.step in (3, 4, 5):
        hook.after_step(Step(state.step, False, {}))
    hook.save()
    hook.save()
    assert saved == [(4, {"rules": 2}, 3), (5, {"rules": 2}, 3)]


@pytest.mark.parametrize("error", [OSError(28, "No space left"), RuntimeError("enforce fail\nstack")])
def test_a_checkpoint_that_cannot_be_written_ends_the_run_in_a_sentence(tmp_path, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr("vae_plugin.training.hooks.checkpoint.save_checkpoint", full)
    hook = CheckpointHook(None, Content(TrainingState(), {}, {}), tmp_path, every=1, total_limit=1)
    hook.content.state.step = 1
    with pytest.raises(StepFailed, match=r"the checkpoint cannot be written to .*checkpoints \(.*\)") as raised:
        hook.save()
    message = str(stopped(raised.value, tmp_path, 1))
    assert message.endswith("at step 1: training stopped, no checkpoint was written yet. Make room on the disk.")
    assert "\n" not in message
