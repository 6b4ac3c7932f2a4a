"""A run that is asked to end saves, and its exit status says by which signal it ended."""

import os
import pty
import signal
import subprocess
import sys
import threading

import pytest

from support.runs import TINY, assert_same, flags, options, weights
from vae_plugin import cli, finetune, signals
from vae_plugin.signals import ENDING
from vae_plugin.training.interrupts import InterruptRequest
from vae_plugin.training.run import Run

SHORT = {**TINY, "max_train_steps": 4, "checkpointing_steps": 4}
NUMBERS = pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)


@pytest.fixture(autouse=True)
def usual_signals():
    """What a process begins with, and nothing that a test left."""
    before = {number: signal.getsignal(number) for number in ENDING}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def interrupted(monkeypatch):
    """Have a signal sent when a step is complete."""

    def at(step, number):
        after_step = Run.after_step

        def interrupting(self, terms):
            after_step(self, terms)
            if self.state.step == step:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(Run, "after_step", interrupting)

    return at


@NUMBERS
def test_the_exit_status_tells_the_signal_and_the_checkpoint_is_there(number, interrupted, tmp_path, capsys):
    interrupted(2, number)
    handlers = [signal.getsignal(n) for n in ENDING]
    assert cli.main(["finetune", *flags(tmp_path, **SHORT)]) == 128 + number
    assert [signal.getsignal(n) for n in ENDING] == handlers
    output, errors = capsys.readouterr()
    assert "Interrupted at step 2" in output
    assert errors.splitlines()[-1] == "interrupted."
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000002"]
    assert not (tmp_path / "config.json").exists()


def test_train_in_python_returns_none_and_says_by_what_it_ended(interrupted, tmp_path):
    interrupted(1, signal.SIGTERM)
    interrupt = InterruptRequest()
    assert finetune.train(options(tmp_path, **SHORT), interrupt=interrupt) is None
    assert interrupt.ended_by == signal.SIGTERM
    assert finetune.train(options(tmp_path / "again", **SHORT)) is None


@pytest.mark.slow
@pytest.mark.parametrize("words", [["-m", "vae_plugin.cli", "finetune"], [finetune.__file__]], ids=["module", "file"])
def test_ctrl_c_while_the_package_is_imported_is_no_traceback(words, tmp_path):
    for name in ("diffusers", "torch"):  # whichever comes first
        (tmp_path / f"{name}.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(600)\n")
    process = subprocess.Popen(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == ""
    assert process.returncode == -signal.SIGINT


@NUMBERS
@pytest.mark.parametrize("phase", ["build_run", "measure_base", "finish"])
def test_outside_the_loop_a_signal_is_one_line(number, phase, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(finetune, phase, lambda *_: os.kill(os.getpid(), number))
    steps = {"max_train_steps": 1, "lr_warmup_steps": 0, "checkpointing_steps": 1}
    assert cli.main(["finetune", *flags(tmp_path, **{**SHORT, **steps})]) == 128 + number
    advice = "interrupted: continue with --resume_from_checkpoint latest."
    errors = capsys.readouterr().err
    assert errors.splitlines()[-1] == (advice if phase == "finish" else "interrupted.")
    assert "Traceback" not in errors


def test_what_was_started_with_nohup_outlives_its_terminal(interrupted, tmp_path):
    interrupted(2, signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert finetune.train(options(tmp_path, **SHORT))["steps"] == 4


def test_a_run_in_a_thread_is_the_same_run(tmp_path):
    results = {}
    thread = threading.Thread(target=lambda: results.update(finetune.train(options(tmp_path / "thread", **SHORT))))
    thread.start()
    thread.join()
    assert results["steps"] == 4
    finetune.train(options(tmp_path / "main", **SHORT))
    assert_same(weights(tmp_path / "thread"), weights(tmp_path / "main"))


CLOSED = """
import importlib.util, signal, sys, time
spec = importlib.util.spec_from_file_location("signals", sys.argv[1])
signals = importlib.util.module_from_spec(spec)
spec.loader.exec_module(signals)
noted = []
with signals.handling(noted.append, signals.ENDING):
    print("ready", flush=True)
    while not noted:
        time.sleep(0.01)
    print("saved", flush=True)  # to a terminal that is no longer there
    print("and said so", file=sys.stderr, flush=True)
open(sys.argv[2], "w").write(str(noted))
"""


@pytest.mark.slow
def test_what_is_printed_after_the_terminal_was_closed_does_not_end_a_run(tmp_path):
    terminal, other_side = pty.openpty()
    words = [sys.executable, "-c", CLOSED, signals.__file__, str(tmp_path / "noted")]
    process = subprocess.Popen(words, stdin=other_side, stdout=other_side, stderr=other_side, start_new_session=True)
    os.close(other_side)
    assert b"ready" in os.read(terminal, 100)
    os.close(terminal)
    os.kill(process.pid, signal.SIGHUP)  # it is no controlling terminal, whose closing sends this
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "noted").read_text() == f"[{int(signal.SIGHUP)}]"
