"""Images that change between a run and its continuation: what was held out stays held out, or the run is refused."""

import pytest
from PIL import Image

from support.colour_sets import BEFORE, KINDS, colours, held_out, open_data, trained_on, write
from vae_plugin.datasets import load_images
from vae_plugin.datasets.members import DataRecord
from vae_plugin.datasets.trained_on import held_out_of
from vae_plugin.errors import UserError
from vae_plugin.training.state import TrainingState

CHANGES = {
    "some more behind": {**BEFORE, **{f"{i}.png": i for i in range(40, 50)}},
    "some more in front": {**{f"0{i}.png": i for i in range(40, 50)}, **BEFORE},
    "others away": {name: i for name, i in BEFORE.items() if i % 3},
    "renumbered": {f"{i:02d}.png": i - 1 if i else 50 for i in range(41)},
    "renamed": {f"image-{i}.png": i for i in range(40)},
    "reversed": {f"{i:02d}.png": 39 - i for i in range(40)} | {"more.png": 60},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_held_out_stays_held_out(tmp_path, kind):
    before = open_data(write(tmp_path / "before", kind, BEFORE), kind)
    then = held_out(before)
    record = DataRecord.read(before.record.to_dict(), "it")
    assert len(then) == 4
    assert then | trained_on(before) == set(BEFORE.values())
    changes = {change: CHANGES[change] for change in CHANGES if "parquet" not in kind or change != "renamed"}
    for change, samples in changes.items():
        folder = write(tmp_path / change, kind, samples)
        with pytest.raises(UserError, match=r"are not those of the checkpoint.*--allow_changed_data"):
            open_data(folder, kind, record)
        data = open_data(folder, kind, record, allow_changed_data=True)
        left = then & set(samples.values())
        assert data.changed
        assert held_out(data) == left, change
        assert trained_on(data) == set(samples.values()) - left, change
        # And so it stays, when the run goes on once more.
        again = open_data(folder, kind, data.record)
        assert not again.changed
        assert held_out(again) == left
        assert trained_on(again) == set(samples.values()) - left


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_moved_did_not_change(tmp_path, kind):
    before = open_data(write(tmp_path / "before", kind, BEFORE), kind)
    (tmp_path / "before").rename(tmp_path / "elsewhere")
    after = open_data(tmp_path / "elsewhere", kind, before.record)
    assert not after.changed
    assert after.record == before.record
    assert held_out(after) == held_out(open_data(tmp_path / "elsewhere", kind))


def test_data_without_any_of_the_images_held_out_are_refused(tmp_path):
    record = open_data(write(tmp_path / "before", "images", BEFORE), "images").record
    others = write(tmp_path / "others", "images", {f"other {i}.png": 100 + i for i in range(40)})
    with pytest.raises(UserError, match="at least one of these"):
        open_data(others, "images", record, allow_changed_data=True)


def test_an_image_that_was_edited_stays_held_out(tmp_path):
    folder = write(tmp_path / "before", "images", BEFORE)
    before = open_data(folder, "images")
    edited = next(iter(before.record.held_out))
    Image.new("RGB", (9, 9), (200, 0, 0)).save(folder / edited)
    data = open_data(folder, "images", before.record, allow_changed_data=True)
    assert data.record.held_out.keys() == before.record.held_out.keys()
    assert 200 in held_out(data)


def test_a_new_pass_begins_over_data_that_changed():
    state = TrainingState(step=5, epoch=2, images_in_epoch=8, images=40, stream={"0": [3, 1, 2], "1": [2, 0, 1]})
    state.begin_new_pass(4)
    assert (state.step, state.images) == (5, 40)
    assert (state.epoch, state.images_in_epoch) == (3, 0)
    assert state.stream == {str(lane): [4, 0, 0] for lane in range(4)}
    state.begin_new_pass(0)
    assert (state.epoch, state.stream) == (3, {})


@pytest.mark.parametrize(
    "content", [{"digest": 3}, {"held_out": ["a"]}, {"held_out": {"a": 1}}, {"images": "4"}, {"revision": []}]
)
def test_a_record_of_other_types_is_refused(content):
    with pytest.raises(UserError, match=r"what step-000005 says of the data is damaged"):
        DataRecord.read({"rules": 2, **content}, "step-000005")


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_what_a_stream_held_out_is_found_by_random_access_too(tmp_path, kind):
    folder = write(tmp_path / "data", kind, BEFORE)
    record = open_data(folder, f"streamed {kind}").record
    images, sentence = held_out_of(load_images(train_data_dir=folder, resolution=8, channels=3), record)
    assert colours(images[i] for i in range(len(images))) == [0, 1, 2, 3]
    assert sentence.endswith("4 of 40.")
