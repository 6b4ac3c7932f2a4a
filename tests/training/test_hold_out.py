"""What is held out of the training data: whole folders, near-duplicates together, and copies left in training."""

import numpy as np
import pytest

from support.colour_sets import BEFORE, encoded, held_out, open_data, trained_on, write
from support.near_copies import photograph
from vae_plugin.datasets.members import DataRecord
from vae_plugin.errors import UserError

FOLDERS = {
    f"video {letter}": range(start, start + 6) for start, letter in zip(range(0, 60, 6), "abcdefghij", strict=True)
}


def videos(folder):
    for name, numbers in FOLDERS.items():
        write(folder / name, "images", {f"{i}.png": i for i in numbers})
    return folder


def whole(numbers):
    """The folders of images, none of which may be split."""
    return {name for name, frames in FOLDERS.items() if set(frames) & numbers}


def test_whole_folders_are_held_out_drawn_by_the_seed(tmp_path):
    videos(tmp_path / "data")
    drawn = set()
    for seed in range(6):
        data = open_data(tmp_path / "data", "images", seed=seed, split_by="folder")
        assert len(held_out(data)) == 6  # of four that were asked for
        assert not whole(held_out(data)) & whole(trained_on(data))
        assert held_out(data) | trained_on(data) == set(range(60))
        assert "1 of 10 folders are held out, with 6 images." in data.notes
        drawn |= whole(held_out(data))
    assert len(drawn) > 2
    by_image = open_data(tmp_path / "data", "images")
    assert len(held_out(by_image)) == 4
    order = np.random.default_rng(0).permutation(60)[:4]  # as before there was a choice
    assert set(by_image.record.held_out) == {sorted_names(tmp_path / "data")[i] for i in order}


def sorted_names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def test_a_continued_run_keeps_its_folders_and_trains_on_nothing_new_in_them(tmp_path):
    videos(tmp_path / "data")
    first = open_data(tmp_path / "data", "images", split_by="folder")
    record = DataRecord.read(first.record.to_dict(), "it")
    again = open_data(tmp_path / "data", "images", record, split_by="folder")
    assert (held_out(again), trained_on(again)) == (held_out(first), trained_on(first))
    assert not again.changed
    (name,) = whole(held_out(first))
    other = next(folder for folder in FOLDERS if folder != name)
    for number, folder in ((200, name), (201, other)):
        (tmp_path / "data" / folder / "more.png").write_bytes(encoded(number))
    more = open_data(tmp_path / "data", "images", record, split_by="folder", allow_changed_data=True)
    assert held_out(more) == held_out(first)
    assert trained_on(more) == trained_on(first) | {201}


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [("images", "lie in one folder"), ("parquet", "which have no folders"), ("tar", "which have no folders")],
)
def test_data_without_several_folders_are_refused(tmp_path, kind, sentence):
    with pytest.raises(UserError, match=rf"{sentence}.*leave (--split_by|it) out"):
        open_data(write(tmp_path / "data", kind, BEFORE), kind, split_by="folder")


@pytest.mark.parametrize("kind", ["images", "parquet"])
def test_copies_of_held_out_images_in_training_are_counted(tmp_path, kind):
    once = open_data(write(tmp_path / "once", kind, BEFORE), kind)
    assert not any("byte for byte" in note for note in once.notes)
    twice = open_data(write(tmp_path / "twice", kind, {f"{i:02d}.png": i // 2 for i in range(80)}), kind)
    both = len(held_out(twice) - trained_on(twice))  # both copies are held out
    note = next(note for note in twice.notes if "byte for byte" in note)
    assert note.startswith(f"{4 - 2 * both} of the 4 images held out are in the training data too")
    assert twice.size == 76
    few = open_data(tmp_path / "twice", kind, max_train_samples=1)
    assert len(few.train) == 1
    told = any("byte for byte" in note for note in few.notes)
    assert told == bool(held_out(few) & trained_on(few))


def copies(folder, numbers):
    """Photographs, of every third of which there are copies: compressed anew, and smaller."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        image = photograph(number)
        image.save(folder / f"{number:02}.png")
        if number % 3 == 0:
            image.save(folder / f"copy of {number:02}.jpg", quality=60)
            image.resize((48, 36)).save(folder / f"small {number:02}.png")


def names(images):
    return {images.origin.names[row] for row in images.rows.tolist()}


def subjects(images):
    return {name.rpartition(".")[0][-2:] for name in names(images)}


def test_near_duplicates_stay_on_one_side(tmp_path):
    copies(tmp_path / "data", range(24))
    for seed in range(4):
        data = open_data(tmp_path / "data", "images", seed=seed, split_by="similar", dataloader_num_workers=seed)
        assert len(data.validation) == 4
        assert not subjects(data.validation) & subjects(data.train)
        assert names(data.validation) | names(data.train) == {path.name for path in (tmp_path / "data").iterdir()}
        number = len(subjects(data.validation))
        told = (
            f"24 of 40 images have near-duplicates, in 8 groups of at most 3; 4 images in {number} groups are held out."
        )
        assert told in data.notes
    plain = open_data(tmp_path / "data", "images", seed=3)
    assert subjects(plain.validation) & subjects(plain.train)


def test_a_continued_run_does_not_train_on_new_copies_of_what_was_held_out(tmp_path, monkeypatch):
    copies(tmp_path / "data", range(24))
    first = open_data(tmp_path / "data", "images", split_by="similar")
    record = DataRecord.read(first.record.to_dict(), "it")
    with monkeypatch.context() as patched:  # nothing is looked at again
        patched.setattr("vae_plugin.training.hold_out.hashes", None)
        again = open_data(tmp_path / "data", "images", record, split_by="similar")
    assert (names(again.validation), names(again.train)) == (names(first.validation), names(first.train))
    held_out = min(subjects(first.validation))
    photograph(int(held_out)).resize((60, 45)).save(tmp_path / "data" / f"again {held_out}.jpg", quality=70)
    photograph(99).save(tmp_path / "data" / "new 99.png")
    more = open_data(tmp_path / "data", "images", record, split_by="similar", allow_changed_data=True)
    assert names(more.validation) == names(first.validation)
    assert names(more.train) == names(first.train) | {"new 99.png"}


def test_images_that_are_all_similar_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"all 40 images in .* are similar to one another.*leave it out"):
        open_data(write(tmp_path / "data", "parquet", BEFORE), "parquet", split_by="similar")  # each of one colour
