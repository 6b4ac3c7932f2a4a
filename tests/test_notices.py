"""What is printed of names from outside, whatever characters they have and the terminal lacks."""

from __future__ import annotations

import io
import multiprocessing
import os
import sys
from types import SimpleNamespace

import pytest

from vae_plugin import notices
from vae_plugin.errors import UserError, exit_status
from vae_plugin.training.data import TrainingData

NAMES = ["plain.jpg", "Zürich 東京.jpg", os.fsdecode(b"\xff\xfe.jpg"), "a\x1b[31mred.jpg", "two\nlines.jpg"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_name_can_be_shown(name, encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    notices.show(f"skipped: {name}", stream)
    stream.flush()
    shown = raw.getvalue().decode(encoding)
    assert shown.startswith("skipped: ")
    assert shown.endswith(".jpg\n")
    assert shown[:-1].isprintable()
    if name == NAMES[0] or (name == NAMES[1] and encoding == "utf-8"):
        assert name in shown


def test_a_long_list_of_names_ends():
    assert notices.some(["b", "a"]) == "a, b"
    assert notices.some({f"{i:03d}" for i in range(105)}, most=3) == "000, 001, 002 and 102 more"


def test_each_kind_is_said_once_and_by_the_main_process_alone(monkeypatch, capsys):
    monkeypatch.setattr(notices, "_said", bytearray(1 << 16))
    for kind in ("one", "one", "other"):
        notices.say_once(kind, f"sentence {kind}.")
    monkeypatch.setenv("RANK", "1")
    notices.say_once("third", "sentence third.")
    assert capsys.readouterr().err == "note: sentence one.\nnote: sentence other.\n"


def test_processes_that_are_forked_do_not_repeat_one_another(capfd):
    kind = f"a kind of process {os.getpid()}"
    for _ in range(3):
        process = multiprocessing.get_context("fork").Process(target=notices.say_once, args=(kind, "a sentence."))
        process.start()
        process.join()
    notices.say_once(kind, "a sentence.")
    assert capfd.readouterr().err == "note: a sentence.\n"


def test_a_command_ends_as_it_should_where_the_terminal_lacks_characters(monkeypatch):
    written = {}
    for name in ("stdout", "stderr"):
        written[name] = io.BytesIO()
        monkeypatch.setattr(sys, name, io.TextIOWrapper(written[name], encoding="ascii", write_through=True))

    def work():
        print("東京", os.fsdecode(b"\xff"))
        raise UserError("東京")

    assert exit_status(work) == 2
    assert written["stdout"].getvalue() == b"\\u6771\\u4eac \\udcff\n"
    assert written["stderr"].getvalue() == b"error: \\u6771\\u4eac\n"


def test_the_end_of_a_run_names_what_was_left_out_on_any_terminal(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    intake = SimpleNamespace(sentence=lambda: None)
    data = SimpleNamespace(train=None, unreadable=set(NAMES), clipped=set(), passed_over=set(), intake=intake)
    TrainingData.report_unreadable(data)
    (line,) = written.getvalue().decode("ascii").splitlines()
    assert line.startswith("5 file(s) could not be read as images and were skipped: ")
    assert "\\udcff" in line


def test_streams_that_are_no_files_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())

    def work():
        raise UserError("no.")

    assert exit_status(work) == 2
    assert sys.stderr.getvalue() == "error: no.\n"
