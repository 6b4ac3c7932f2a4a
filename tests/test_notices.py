"""What is printed of names from outside, whatever characters they have and the terminal lacks."""

from __future__ import annotations

import io
import os
import sys

import pytest

from vae_plugin import notices
from vae_plugin.errors import UserError, exit_status

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


def test_each_kind_is_said_once_and_by_the_main_process_alone(monkeypatch, capsys):
    monkeypatch.setattr(notices, "_said", set())
    for kind in ("one", "one", "other"):
        notices.say_once(kind, f"sentence {kind}.")
    monkeypatch.setenv("RANK", "1")
    notices.say_once("third", "sentence third.")
    assert capsys.readouterr().err == "note: sentence one.\nnote: sentence other.\n"


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


def test_streams_that_are_no_files_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())

    def work():
        raise UserError("no.")

    assert exit_status(work) == 2
    assert sys.stderr.getvalue() == "error: no.\n"
