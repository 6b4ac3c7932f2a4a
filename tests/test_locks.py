"""One process at a time has the right to write into a folder, and a killed one has it no more."""

import os
import signal
import subprocess
import sys
import time

import pytest

from support import HANGS
from vae_plugin.locks import FolderLock

HOLDS = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])  # of the module alone, which needs nothing else
from locks import FolderLock
lock = FolderLock(Path(sys.argv[1]))
assert lock.take()
child = os.fork()  # as those that load images
if child:
    print(child, flush=True)
time.sleep(600)
"""


def test_one_at_a_time_in_one_process(tmp_path):
    one, other, elsewhere = FolderLock(tmp_path), FolderLock(tmp_path / "." / ""), FolderLock(tmp_path / "..")
    assert one.take()
    assert not other.take()
    assert elsewhere.take()
    one.release()
    one.release()
    assert other.take()
    assert not one.take()
    one.release()  # what it does not have
    assert not one.take()
    other.release()
    elsewhere.release()


def test_a_killed_process_has_it_no_more_though_its_children_live(tmp_path):
    locks = os.path.dirname(sys.modules[FolderLock.__module__].__file__)
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path), locks], stdout=subprocess.PIPE, text=True)
    child = int(holder.stdout.readline())
    lock = FolderLock(tmp_path)
    try:
        assert not lock.take()
        holder.kill()
        holder.wait(HANGS)
        os.kill(child, 0)  # it lives
        end = time.monotonic() + HANGS
        while not lock.take():
            assert time.monotonic() < end
    finally:
        lock.release()
        os.kill(child, signal.SIGKILL)
        holder.stdout.close()


def test_a_folder_that_cannot_be_written_is_an_error_of_the_system(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(OSError, match="directory"):
        FolderLock(tmp_path).take()


def test_a_file_system_without_locks_does_not_stop_a_run(tmp_path, monkeypatch):
    import fcntl

    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    lock = FolderLock(tmp_path)
    assert lock.take()
    assert not lock.exists  # which the run tells
