"""A validation set of a run's own: what is measured, that nothing of it is trained on, and continued runs."""

import json
import os

import pytest

from support.colour_sets import BEFORE, KINDS, colours, encoded, held_out, open_data, trained_on, write
from support.runs import assert_same, options, smooth_photographs, weights
from vae_plugin import cli
from vae_plugin.datasets import load_images
from vae_plugin.datasets.duplicates import lengths, shared_rows
from vae_plugin.datasets.members import DataRecord
from vae_plugin.datasets.trained_on import held_out_of
from vae_plugin.errors import UserError
from vae_plugin.finetune import train

# Of the 40 images of the training data, six are there under other names, and ten are new.
OWN = {**{f"again {i}.png": i for i in range(6)}, **{f"new {i}.png": i for i in range(100, 110)}}


def own(tmp_path, kind, own_kind="images", record=None, **changes):
    for name, of, samples in (("data", kind, BEFORE), ("own", own_kind, OWN)):
        if not (tmp_path / name).exists():
            write(tmp_path / name, of, samples)
    return open_data(tmp_path / "data", kind, record, validation_data_dir=str(tmp_path / "own"), **changes)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_held_out_and_nothing_of_the_validation_set_is_trained_on(tmp_path, kind):
    data = own(tmp_path, kind, own_kind=kind.split()[-1])
    measured = held_out(data)
    assert len(measured) == 4
    assert measured < set(OWN.values())
    assert trained_on(data) == set(BEFORE.values()) - set(OWN.values())
    data.gather_unreadable()
    if data.size is None:
        assert len(data.passed_over) == 6
    else:
        assert data.size == 34
        assert any("6 of the 40 images in" in note and "are not trained on" in note for note in data.notes)


def test_the_images_that_are_measured_are_drawn_by_the_seed(tmp_path):
    everything = own(tmp_path, "images")
    assert len(held_out(own(tmp_path, "images"))) == 4
    assert held_out(own(tmp_path, "images")) == held_out(everything)
    drawn = {tuple(sorted(held_out(own(tmp_path, "images", seed=seed)))) for seed in range(6)}
    assert len(drawn) > 3  # of 1820 choices


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_of_the_same_data(tmp_path, kind):
    for split, numbers in (("train", range(30)), ("test", range(30, 44))):
        write(tmp_path / "data" / split, kind, {f"{i}.png": i for i in numbers})
    data = open_data(tmp_path / "data", kind, validation_split="test")
    assert trained_on(data) == set(range(30))
    measured = held_out(data)
    assert len(measured) == 4
    assert measured < set(range(30, 44))
    if "streamed" in kind:
        assert measured == {30, 31, 32, 33}
    again = open_data(tmp_path / "data", kind, data.record, validation_split="test")
    assert held_out(again) == measured
    assert not again.changed


def test_a_folder_within_the_training_data_is_held_out_as_a_whole(tmp_path):
    write(tmp_path / "data", "images", BEFORE)
    write(tmp_path / "data" / "one slide", "images", {f"{i}.png": i for i in range(100, 112)})
    data = open_data(tmp_path / "data", "images", validation_data_dir=str(tmp_path / "data" / "one slide"))
    assert held_out(data) < set(range(100, 112))
    assert trained_on(data) == set(BEFORE.values())


@pytest.mark.parametrize(("kind", "other"), [("images", "parquet"), ("parquet", "tar"), ("tar", "images")])
def test_common_images_are_those_of_the_same_bytes(tmp_path, kind, other):
    sets = [
        load_images(train_data_dir=write(tmp_path / str(i), of, samples), resolution=8, channels=3)
        for i, (of, samples) in enumerate(((kind, BEFORE), (other, OWN)))
    ]
    for images, samples in zip(sets, (BEFORE, OWN), strict=True):
        sizes = {int(colour): len(encoded(colour)) for colour in samples.values()}
        named = colours(images[i] for i in range(len(images)))
        assert lengths(images) == [sizes[colour] for colour in named]
    contents = {sets[1].content(row) for row in range(len(sets[1]))}
    expected = [row for row in range(len(sets[0])) if sets[0].content(row) in contents]
    assert len(expected) == 6
    rows, all_compared = shared_rows(*sets)
    assert (rows.tolist(), all_compared) == (expected, True)
    few, all_compared = shared_rows(*sets, most=4, most_bytes=1 << 20)
    assert set(few) <= set(expected)
    assert not all_compared


@pytest.mark.parametrize("kind", ["parquet", "streamed tar"])
def test_a_continued_run_measures_the_same_images(tmp_path, kind):
    first = own(tmp_path, kind)
    record = DataRecord.read(json.loads(json.dumps(first.record.to_dict())), "it")
    assert record == first.record
    measured, trained = held_out(first), trained_on(first)
    os.rename(tmp_path / "own", tmp_path / "moved")
    moved = {"validation_data_dir": str(tmp_path / "moved")}
    again = open_data(tmp_path / "data", kind, record, **moved)
    assert not again.changed
    assert held_out(again) == measured
    assert trained_on(again) == trained
    gone = next(iter(record.held_out))
    (tmp_path / "moved" / gone).unlink()
    (tmp_path / "moved" / "more.png").write_bytes(encoded(200))
    with pytest.raises(UserError, match=r"moved are not those of the checkpoint.*what was measured is measured again"):
        open_data(tmp_path / "data", kind, record, **moved)
    changed = open_data(tmp_path / "data", kind, record, allow_changed_data=True, **moved)
    assert changed.changed
    assert held_out(changed) == measured - {OWN[gone]}
    for name in record.held_out:
        (tmp_path / "moved" / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match="none of the images that were measured before"):
        open_data(tmp_path / "data", kind, record, allow_changed_data=True, **moved)


def test_a_continued_run_keeps_its_kind_of_validation_set(tmp_path):
    of_own = own(tmp_path, "images").record
    of_data = open_data(tmp_path / "data", "images").record
    with pytest.raises(UserError, match="give it again by --validation_data_dir or --validation_split"):
        open_data(tmp_path / "data", "images", of_own)
    with pytest.raises(UserError, match="leave --validation_data_dir out"):
        own(tmp_path, "images", record=of_data)


def test_training_images_that_are_all_in_the_validation_set_are_refused(tmp_path):
    folder = write(tmp_path / "data", "images", BEFORE)
    with pytest.raises(UserError, match=r"all 40 images in .*data are in the validation set"):
        open_data(folder, "images", validation_data_dir=str(folder))
    write(tmp_path / "twice" / "test", "images", OWN)
    write(tmp_path / "twice" / "train", "images", BEFORE)
    with pytest.raises(UserError, match="has the splits test, train: give the folder of one"):
        open_data(folder, "images", validation_data_dir=str(tmp_path / "twice"))
    with pytest.raises(UserError, match=r"nowhere does not exist"):
        open_data(folder, "images", validation_data_dir=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="has no split 'test'"):
        open_data(folder, "images", validation_split="test")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"train_data_dir": "a", "validation_data_dir": "b", "validation_split": "test"}, "has no effect with"),
        ({"train_data_dir": "a", "validation_split": "train"}, "is the split that is trained on"),
        ({"train_data_dir": "a", "dataset_split": "val", "validation_split": "validation"}, "is the split that is"),
        ({"validation_data_dir": "b"}, "has no effect on generated circles"),
        ({"validation_split": "test"}, "has no effect on generated circles"),
    ],
)
def test_options_that_exclude_each_other(tmp_path, given, sentence):
    with pytest.raises(UserError, match=sentence):
        options(tmp_path / "out", **given)


def test_an_output_folder_within_the_validation_set_is_refused(tmp_path):
    (tmp_path / "val").mkdir()
    with pytest.raises(UserError, match="lies in the data in"):
        options(tmp_path / "val" / "out", train_data_dir=str(tmp_path), validation_data_dir=str(tmp_path / "val"))


def test_a_run_with_its_own_validation_set_continues_to_the_bit_and_says_what_it_measured(tmp_path, capsys):
    for name in ("data", "own"):
        (tmp_path / name).mkdir()
    smooth_photographs(tmp_path / "data", 20)
    smooth_photographs(tmp_path / "own", 3, size=(24, 24))
    given = {
        "train_data_dir": str(tmp_path / "data"),
        "validation_data_dir": str(tmp_path / "own"),
        "checkpointing_steps": 1,
        "max_train_steps": 3,
        "lr_scheduler": "constant",
    }
    metrics = train(options(tmp_path / "out", **given))
    assert metrics["num_images"] == 3
    after = weights(tmp_path / "out")
    assert train(options(tmp_path / "out", **given, resume_from_checkpoint="step-000001"))["psnr"] == metrics["psnr"]
    assert_same(weights(tmp_path / "out"), after)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["split"] == "validation set own"
    assert "(validation set own)" in (tmp_path / "out" / "README.md").read_text()
    capsys.readouterr()
    assert cli.main(["evaluate", str(tmp_path / "out"), "--data_dir", str(tmp_path / "own"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["psnr"] == pytest.approx(metrics["psnr"], rel=1e-5)


def test_what_evaluate_measures_of_data_that_hold_a_validation_set(tmp_path):
    write(tmp_path / "data", "images", BEFORE)
    write(tmp_path / "data" / "own", "images", {f"{i}.png": i for i in range(100, 104)})
    record = open_data(tmp_path / "data", "images", validation_data_dir=str(tmp_path / "data" / "own")).record
    own = load_images(train_data_dir=tmp_path / "data" / "own", resolution=8, channels=3)
    assert held_out_of(own, record) is None
    images, sentence = held_out_of(load_images(train_data_dir=tmp_path / "data", resolution=8, channels=3), record)
    assert set(colours(images[i] for i in range(len(images)))) == set(range(100, 104))
    assert sentence.startswith("the model was trained on the images in")
    apart = open_data(tmp_path / "data", "images", validation_data_dir=write(tmp_path / "apart", "images", OWN)).record
    images, sentence = held_out_of(load_images(train_data_dir=tmp_path / "data", resolution=8, channels=3), apart)
    assert len(images) == 44
    assert sentence.endswith("which are measured here.")
    (tmp_path / "data" / "later.png").write_bytes(encoded(222))
    images, sentence = held_out_of(load_images(train_data_dir=tmp_path / "data", resolution=8, channels=3), record)
    assert len(images) == 4
    assert "has images that the run of the model was measured on, and others" in sentence
