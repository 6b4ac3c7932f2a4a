"""Files and folders are complete or absent, whatever fails while they are written."""

import json
import os

import pytest

from vae_plugin import files
from vae_plugin.errors import UserError


class Failed(Exception):
    """What goes wrong in the middle."""


def fail(writing, name=""):
    """Write the half of a file, or of the file `name` of a folder, and fail."""
    with writing as partial:
        (partial / name if name else partial).write_text("half")
        raise Failed


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


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


def test_what_a_killed_process_left_is_removed(tmp_path):
    files.start_partial(tmp_path / "step").joinpath("half").write_text("half")
    with files.replacing_folder(tmp_path / "step") as staging:
        assert names(staging) == []
    assert names(tmp_path) == ["step"]


def test_a_file_cannot_be_the_output_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file cannot be the output folder: File exists\. Give another folder\."):
        files.make_folder(tmp_path / "file")
