"""Opening a checkpoint runs none of its code, and a damaged one is refused or passed over in one sentence."""

import contextlib
import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from support.hostile import HOSTILE
from support.tiny_parts import tiny_checkpoint, tiny_parts
from support.trees import assert_equal
from vae_plugin import cli
from vae_plugin.errors import UserError
from vae_plugin.training import checkpoints
from vae_plugin.training.checkpoints import DamagedCheckpoint, read_checkpoint, read_states, verify_checkpoint
from vae_plugin.training.parts import StateMismatch
from vae_plugin.training.resuming import find_beginning

OLD = Path(__file__).resolve().parent.parent / "fixtures" / "release-0.1"
STEP = Path("checkpoints", "step-000002")


@pytest.fixture(params=["old", "new"])
def output_dir(request, tmp_path):
    """A run with a checkpoint of release 0.1, or of now, with everything that one can hold."""
    if request.param == "old":
        shutil.copytree(OLD / "gan" / STEP, tmp_path / STEP)
        shutil.copy(OLD / "ema" / STEP / "custom_checkpoint_1.pkl", tmp_path / STEP / "custom_checkpoint_2.pkl")
        state = tmp_path / STEP / "training_state.json"
        content = json.loads(state.read_text())
        state.write_text(json.dumps({**content, "options": {**content["options"], "use_ema": True}}))
    else:
        tiny_checkpoint(tmp_path, 2)
    verify_checkpoint(tmp_path / STEP)
    return tmp_path


def begin(output_dir, resume_from="latest"):
    """All of a checkpoint that is read before a run goes on."""
    beginning = find_beginning(Accelerator(cpu=True), output_dir, resume_from)
    read_states(beginning.checkpoint, beginning.content)
    return beginning


def trees_of(output_dir):
    return dict(read_states(output_dir / STEP, read_checkpoint(output_dir / STEP)))


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_pickle_does_not_run_in_the_place_of_any_file(output_dir, kind, tmp_path):
    hostile, ran = HOSTILE[kind](tmp_path / "ran"), tmp_path / "ran"
    (tmp_path / "alive").write_bytes(hostile)
    with contextlib.suppress(RuntimeError):  # of a bare pickle, after it has run
        torch.load(tmp_path / "alive", weights_only=False)
    ran.rmdir()  # it would run
    (output_dir / STEP / "custom_checkpoint_9.pkl").write_bytes(hostile)  # nobody asks for it
    begin(output_dir)
    for path in sorted((output_dir / STEP).iterdir()):
        if path.name == "custom_checkpoint_9.pkl":
            continue
        whole = path.read_bytes()
        path.write_bytes(hostile)
        for resume_from in ("latest", "step-000002", str(output_dir / STEP)):
            with pytest.raises(UserError, match=f"is damaged: .*{path.name.split('.')[0]}"):
                begin(output_dir, resume_from)
        path.write_bytes(whole)
    assert not ran.exists()


def damages(path, chance):
    """Names and contents of a damaged file; None for one that is gone."""
    whole = path.read_bytes()
    at, flipped = chance.randrange(len(whole)), bytearray(whole)
    flipped[at] ^= 1 << chance.randrange(8)
    return {
        "gone": None,
        "empty": b"",
        "cut": whole[: chance.randrange(len(whole))],
        "flipped": bytes(flipped),
        "noise": chance.randbytes(len(whole)),
    }


def is_unchanged(output_dir):
    """Whether the states are those of the copy."""
    try:
        found = begin(output_dir, "step-000002")
    except DamagedCheckpoint:
        return False
    copied = output_dir / "checkpoints" / "step-000001"
    assert_equal(trees_of(output_dir), dict(read_states(copied, read_checkpoint(copied))))
    return bool(found)


def test_a_damaged_file_is_named_and_latest_takes_the_one_before(output_dir, capsys):
    """In release 0.1 weights and JSON had no checksum, and a bit between the parts of an archive changes nothing."""
    chance = random.Random(0)
    old = not (output_dir / STEP / "random_states.safetensors").exists()
    shutil.copytree(output_dir / STEP, output_dir / "checkpoints" / "step-000001")
    for number, path in enumerate(sorted((output_dir / STEP).iterdir())):
        whole = path.read_bytes()
        found = damages(path, chance)
        for name in [list(found)[number % len(found)]] if old else found:  # an old one takes its time
            content = found[name]
            if old and name == "flipped" and path.suffix in (".safetensors", ".json"):
                continue
            path.unlink() if content is None else path.write_bytes(content)
            if old and name == "flipped" and is_unchanged(output_dir):
                path.write_bytes(whole)
                continue
            with pytest.raises(DamagedCheckpoint) as raised:
                begin(output_dir, "step-000002")
            assert path.name.split(".")[0] in str(raised.value), (path.name, name)
            assert "\n" not in str(raised.value)
            assert begin(output_dir).checkpoint.name == "step-000001", (path.name, name)
            assert "step-000002 is damaged and passed over: " in capsys.readouterr().out
            path.write_bytes(whole)
    assert begin(output_dir).checkpoint.name == "step-000002"


def test_where_none_is_whole_nothing_begins_anew(output_dir):
    (output_dir / STEP / "training_state.json").unlink()
    with pytest.raises(DamagedCheckpoint, match=r"training_state\.json cannot be read"):
        begin(output_dir)


def leaves(value, path=()):
    """The paths to everything in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from leaves(inner, (*path, key))


def replaced(value, path, by):
    if not path:
        return by
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = replaced(value[path[0]], path[1:], by)
    return copied


WRONG = (None, True, -1, 0.5, 10**400, "x", [], {}, [1], {"a": 1})


def test_wrong_types_in_the_state_are_one_sentence(output_dir):
    """With the right checksum too, as somebody would write it who wants the run to fail later."""
    path = output_dir / STEP / "training_state.json"
    content = json.loads(path.read_text())
    own = content.pop("sha256", None)
    for at in leaves({name: value for name, value in content.items() if name != "options"}):
        for wrong in WRONG:
            changed = replaced(content, at, wrong)
            if isinstance(changed, dict) and own is not None:
                changed = {**changed, "sha256": checkpoints._sha256_of(changed)}
            path.write_text(json.dumps(changed))
            said = None
            try:
                begin(output_dir, "step-000002")
            except UserError as error:
                said = str(error)
            assert said is not None or at[:1] in (("state",), ("data",), ("format",), ("files",)), (at, wrong)
            assert "\n" not in (said or ""), (at, wrong)


def test_a_changed_number_is_noticed(tmp_path):
    tiny_checkpoint(tmp_path, 2)
    path = tmp_path / STEP / "training_state.json"
    path.write_text(path.read_text().replace('"images": 6', '"images": 7'))
    with pytest.raises(DamagedCheckpoint, match=r"the checksum of training_state\.json differs"):
        begin(tmp_path)


def test_a_checkpoint_of_a_later_version_is_refused(tmp_path):
    tiny_checkpoint(tmp_path, 2)
    path = tmp_path / STEP / "training_state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 3}))
    with pytest.raises(DamagedCheckpoint, match="its format is 3, and this version knows 1 to 2"):
        begin(tmp_path)


def test_names_of_files_do_not_lead_out_of_the_checkpoint(tmp_path):
    tiny_checkpoint(tmp_path, 2)
    save_file({"a": torch.zeros(1)}, tmp_path / "secret.safetensors")
    path = tmp_path / STEP / "training_state.json"
    for name in ("../../secret.safetensors", str(tmp_path / "secret.safetensors")):
        content = json.loads(path.read_text())
        content["files"] = {**content["files"], name: checkpoints.sha256(tmp_path / "secret.safetensors")}
        content.pop("sha256")
        path.write_text(json.dumps({**content, "sha256": checkpoints._sha256_of(content)}))
        with pytest.raises(DamagedCheckpoint, match="secret"):
            begin(tmp_path, "step-000002")


def test_states_that_do_not_fit_are_one_sentence(tmp_path):
    tiny_checkpoint(tmp_path, 2)
    trees = trees_of(tmp_path)
    with pytest.raises(StateMismatch, match="the state of the model does not fit"):
        tiny_parts(channels=3).restore(trees)
    for name in trees:
        for wrong in (None, [], {}, {"state": [], "param_groups": []}, {"state": {0: {"step": "x"}}}, {"base_lrs": 1}):
            with pytest.raises(StateMismatch) as raised:
                tiny_parts().restore({**trees, name: wrong})
            assert "\n" not in str(raised.value)
        with pytest.raises(StateMismatch, match="it has no state of the"):
            tiny_parts().restore({n: tree for n, tree in trees.items() if n != name})


def test_a_checkpoint_of_several_processes_of_release_0_1_is_that_of_one(tmp_path):
    """Its weights have the wrapper's prefix, and each process its own random numbers."""
    shutil.copytree(OLD / "ema" / STEP, tmp_path / "one" / STEP)
    shutil.copytree(OLD / "ema" / STEP, tmp_path / "two" / STEP)
    weights = load_file(tmp_path / "two" / STEP / "model.safetensors")
    save_file({f"module.{n}": w for n, w in weights.items()}, tmp_path / "two" / STEP / "model.safetensors")
    shutil.copy(tmp_path / "two" / STEP / "random_states_0.pkl", tmp_path / "two" / STEP / "random_states_1.pkl")
    one, two = trees_of(tmp_path / "one"), trees_of(tmp_path / "two")
    assert len(two["random_states"]) == 2
    two["random_states"].pop()
    assert_equal(
        {**two, "model": dict(sorted(two["model"].items()))}, {**one, "model": dict(sorted(one["model"].items()))}
    )
    (tmp_path / "two" / STEP / "random_states_0.pkl").unlink()
    with pytest.raises(DamagedCheckpoint, match="random_states"):
        begin(tmp_path / "two")


def test_the_command_line_says_it_in_one_sentence(tmp_path, monkeypatch, capsys):
    shutil.copytree(OLD / "vae", tmp_path / "vae")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vae" / STEP / "random_states_0.pkl").write_bytes(HOSTILE["torch"](tmp_path / "ran"))
    words = ["finetune", "--config", "vae/training_options.yaml", "--resume_from_checkpoint", "latest"]
    assert cli.main(words) == 2
    assert not (tmp_path / "ran").exists()
    errors = capsys.readouterr().err
    assert errors.startswith("error: vae/checkpoints/step-000002 is damaged: random_states_0.pkl cannot be read (")
    assert errors.count("\n") == 1


def test_weights_of_a_checkpoint_are_plain_safetensors(tmp_path):
    parts = tiny_parts()
    tiny_checkpoint(tmp_path, 2, parts=parts)
    found = load_file(tmp_path / STEP / "model.safetensors")
    for name, value in parts.trainees[0].module.state_dict().items():
        assert torch.equal(found[name], value)
    assert {path.suffix for path in (tmp_path / STEP).iterdir()} == {".safetensors", ".json"}
