"""Files and folders are complete or absent, whatever fails while they are written."""

import json
import os
import signal
import time

import pytest

from support import HANGS
from support.kills import killed_at
from vae_plugin import files
from vae_plugin.errors import UserError
from vae_plugin.locks import FolderLock


class Failed(Exception):
    """What goes wrong in the middle."""


def fail(writing, name=""):
    """Write the half of a file, or of the file `name` of a folder, and fail."""
    with writing as partial:
        (partial / name if name else partial).write_text("half")
        raise Failed


def names(folder):
    """Everything in a folder that `ls` shows."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(name for name in found if not name.startswith(".") and "/." not in name)


def test_a_file_is_replaced_at_the_end(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    files.write_text(path, "old")
    with files.replacing_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert partial.parent == path.parent  # a rename across file systems would be a copy
    assert path.read_text() == "new"
    assert names(tmp_path) == ["deep", "deep/a.txt"]


def test_a_file_stays_as_it_was_where_writing_fails(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(Failed):
        fail(files.replacing_file(path))
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    "write", [lambda path: files.write_text(path, "ü"), lambda path: files.write_bytes(path, b"u")]
)
def test_what_is_written_is_on_the_disk_before_it_is_seen(write, tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append("fsync") or fsync(descriptor))
    monkeypatch.setattr(os, "replace", lambda *paths: done.append("replace") or replace(*paths))
    write(tmp_path / "a")
    assert done == ["fsync", "replace"]
    assert (tmp_path / "a").read_bytes() in ("ü".encode(), b"u")


def test_a_folder_is_filled_at_the_end_and_other_files_stay(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("mine", "config"):
        (folder / name).write_text("old")
    with pytest.raises(Failed):
        fail(files.filling_folder(folder), "config")
    assert (folder / "config").read_text() == "old"
    with files.filling_folder(folder) as staging:
        (staging / "config").write_text("new")
        (staging / "weights").write_text("new")
        assert names(folder) == ["config", "mine"]
    assert {name: (folder / name).read_text() for name in names(folder)} == {
        "config": "new", "mine": "old", "weights": "new"
    }  # fmt: skip
    assert names(tmp_path) == ["out", "out/config", "out/mine", "out/weights"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "best"
    for content in ("old", "new"):
        with files.replacing_folder(folder) as staging:
            (staging / content).write_text(content)
        assert names(tmp_path) == ["best", f"best/{content}"]
    with pytest.raises(Failed):
        fail(files.replacing_folder(folder), "half")
    assert names(tmp_path) == ["best", "best/new"]


def test_a_new_folder_that_fails_leaves_nothing(tmp_path):
    for write in (files.filling_folder, files.replacing_folder):
        with pytest.raises(Failed):
            fail(write(tmp_path / "out"), "half")
    assert names(tmp_path) == []


def test_a_folder_is_filled_with_folders(tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "step.png").write_text("old")
    with files.filling_folder(tmp_path) as staging:
        (staging / "samples").mkdir()
        (staging / "samples" / "a.png").write_text("new")
    assert names(tmp_path) == ["samples", "samples/a.png", "samples/step.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["samples"]
    with pytest.raises(IsADirectoryError):
        fill(tmp_path, "none moves", ("a", "samples"))
    assert names(tmp_path) == ["samples", "samples/a.png", "samples/step.png"]


def fill(folder, content, names=("a", "b", "c")):
    with files.filling_folder(folder) as staging:
        for name in names:
            (staging / name).write_text(content)


def test_killed_at_any_rename_a_folder_is_old_or_new_for_those_who_settle_it(tmp_path):
    fill(tmp_path, "old")
    seen = set()
    for number in range(1, 6):
        killed = killed_at(number, lambda number=number: fill(tmp_path, f"new {number}"))
        assert killed == (number < 5)
        files.settle(tmp_path)
        [content] = {(tmp_path / name).read_text() for name in ("a", "b", "c")}
        seen.add(content)
    assert seen == {"old", "new 2", "new 3", "new 4", "new 5"}


def test_killed_at_any_rename_a_replaced_folder_is_old_or_new(tmp_path):
    def replace(content):
        with files.replacing_folder(tmp_path / "best") as staging:
            (staging / "weights").write_text(content)

    replace("old")
    for number in (1, 2, 3):
        assert killed_at(number, lambda number=number: replace(f"new {number}")) == (number < 3)
        files.start_partial(tmp_path / "best")
        assert (tmp_path / "best" / "weights").read_text() in ("old", f"new {number}")
    assert (tmp_path / "best" / "weights").read_text() == "new 3"


def test_a_copy_is_never_a_mixture(tmp_path):
    """A process writes one result after another; every copy is of one of them."""
    source = tmp_path / "out"
    fill(source, "0")
    writer = os.fork()
    if writer == 0:
        try:
            assert FolderLock(source).take()
            for number in range(1, 10_000):
                fill(source, str(number))
                time.sleep(0.01)
        finally:
            os._exit(0)
    try:
        seen, end = set(), time.monotonic() + HANGS
        while len(seen) < 6:
            assert time.monotonic() < end
            target = tmp_path / f"copy{len(list(tmp_path.iterdir()))}"
            files.copy_files(source, target, lambda: {name: source / name for name in ("a", "b", "c")})
            [content] = {(target / name).read_text() for name in ("a", "b", "c")}
            seen.add(content)
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)


def test_a_folder_that_keeps_changing_or_stays_unfinished_is_one_sentence(tmp_path, monkeypatch):
    fill(tmp_path, "old")

    def select():
        (tmp_path / "a").write_text("longer " * len((tmp_path / "a").read_text()))
        return {"a": tmp_path / "a"}

    monkeypatch.setattr(files, "ATTEMPTS", 2)
    with pytest.raises(UserError, match="keep changing: try again when nothing writes there"):
        files.copy_files(tmp_path, tmp_path / "copy", select)
    monkeypatch.setattr(files, "SETTLED_WITHIN", 0.0)
    (tmp_path / files.FILLING).mkdir()
    lock = FolderLock(tmp_path)
    assert lock.take()
    with pytest.raises(UserError, match=r"a run is writing its result into .*: try again when it has ended"):
        files.settle(tmp_path)
    lock.release()
    files.settle(tmp_path)
    assert not (tmp_path / files.FILLING).exists()


def test_on_windows_folders_are_not_synced_and_files_are_opened_to_write(tmp_path, monkeypatch):
    """As Windows has it: a folder cannot be opened, and what was opened to read cannot be synced."""
    opened, real_open, real_fsync = {}, os.open, os.fsync

    def windows_open(path, flags, *mode, **kwargs):
        if os.path.isdir(path) and not kwargs:  # those are of shutil's way on Linux to remove a folder
            raise PermissionError(13, "Permission denied", str(path))
        descriptor = real_open(path, flags, *mode, **kwargs)
        opened[descriptor] = flags
        return descriptor

    def windows_fsync(descriptor):
        if descriptor in opened and not opened[descriptor] & os.O_RDWR:
            raise OSError(9, "Bad file descriptor")
        real_fsync(descriptor)

    monkeypatch.setattr(os, "open", windows_open)
    monkeypatch.setattr(os, "fsync", windows_fsync)
    with pytest.raises(OSError, match=r"Permission denied|Bad file descriptor"):
        fill(tmp_path, "new")
    monkeypatch.setattr(files, "WINDOWS", True)
    fill(tmp_path, "new")
    files.write_text(tmp_path / "d", "new")
    for content in ("old", "new"):
        with files.replacing_folder(tmp_path / "best") as staging:
            (staging / "deep").mkdir()
            (staging / "deep" / "weights").write_text(content)
    assert (tmp_path / "best" / "deep" / "weights").read_text() == "new"
    assert names(tmp_path) == ["a", "b", "best", "best/deep", "best/deep/weights", "c", "d"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    files.start_partial(tmp_path / "step").joinpath("half").write_text("half")
    with files.replacing_folder(tmp_path / "step") as staging:
        assert names(staging) == []
    assert names(tmp_path) == ["step"]


def test_a_file_cannot_be_the_output_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file cannot be the output folder: File exists\. Give another folder\."):
        files.make_folder(tmp_path / "file")
