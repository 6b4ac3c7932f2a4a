"""run.json and metrics.json that somebody edited: read right, or one sentence that names the entry."""

import copy
import json
import random
from dataclasses import asdict, fields

import pytest
import torch
from huggingface_hub import ModelCard

from support.tiny_exports import vqvae
from vae_plugin import AutoencoderVAE, cli
from vae_plugin.autoencoders import adapt
from vae_plugin.errors import UserError
from vae_plugin.hub import RunRecord
from vae_plugin.hub.card import model_card
from vae_plugin.hub.merging import END
from vae_plugin.hub.record import read_metrics

RECORD = {
    "dataset": "photos", "dataset_id": "user/photos", "split": "held out", "train_images": 10, "resolution": 16,
    "part": "decoder", "base_model": "base", "base_model_id": "user/base", "base_revision": "abc", "teacher": "t",
    "license": "mit", "license_name": "n", "license_link": "l", "command": "vae-plugin finetune",
    "options": {"beta": 0.5, "block_out_channels": [8, 8]}, "pictures": {"A": "samples/a.png"}, "device": "cpu",
    "num_processes": 1, "mixed_precision": "no", "seconds": 2.5, "versions": {"torch": "2"}, "commit": "abc",
    "latent_space": {"moved": True, "scaling_factor": {"was": 0.18215, "is": 0.9}},
}  # fmt: skip
METRICS = {
    "psnr": 20.0, "psnr_std": 1.0, "psnr_worst": 18.0, "psnr_median": 20.0, "psnr_best": 22.0, "num_images": 4,
    "steps": 10, "ssim": 0.5,
    "base_psnr": 19.0, "psnr_gain": 1.0, "psnr_gain_ci95": 0.1, "images_per_second": 3.0, "dead_codes": 2,
    "codebook_positions": 100, "codebook_usage": 0.5,
}  # fmt: skip
WRONG = [
    None, True, False, 0, -1, 1.5, 10**400, -(10**400), 1e308, "", "text", "12", "\ud800", [], [1], [[1]], ["a", None],
    {}, {"a": 1}, {"a": {"b": [1]}}, {"": ""}, [[[[]]]], "x" * 10_000,
]  # fmt: skip
VALUES = ["a\nb", None, True, 10**400, [1], {"a": None}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    AutoencoderVAE(in_channels=1, block_out_channels=(4, 4), norm_num_groups=2, sample_size=16).save_pretrained(path)
    return path


def edited(draw, content):
    """A copy of the content in which one value, at any depth, is another or gone."""
    content = copy.deepcopy(content)
    place, name = content, draw.choice(list(content))
    while isinstance(place[name], dict) and place[name] and draw.random() < 0.5:
        place = place[name]
        name = draw.choice(list(place))
    if draw.random() < 0.1:
        del place[name]
    else:
        place[name] = draw.choice(WRONG)
    return content


@pytest.mark.slow
def test_every_edit_gives_a_card_or_a_sentence(folder, capsys):
    draw = random.Random(0)
    outcomes = set()
    for turn in range(60):
        record, metrics = (RECORD, edited(draw, METRICS)) if turn % 3 == 0 else (edited(draw, RECORD), METRICS)
        (folder / "run.json").write_text(json.dumps(record))
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "README.md").unlink(missing_ok=True)
        status = cli.main(["card", str(folder)])
        said = capsys.readouterr().err
        outcomes.add(status)
        assert status in (0, 2), (record, metrics)
        if status == 2:
            assert said.startswith(f"error: {folder}/")
            assert "must be" in said
            assert said.count("\n") == 1
            assert not (folder / "README.md").exists()
        else:
            ModelCard.load(folder / "README.md").data.to_dict()
    assert outcomes == {0, 2}


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("train_images", "many", "a whole number"),
        ("train_images", 1.5, "a whole number"),
        ("resolution", True, "a whole number"),
        ("seconds", 10**400, "a number"),
        ("part", "half", "one of all, decoder, encoder"),
        ("options", [1], "an object"),
        ("options", {"a": {"b": 1}}, "an object"),
        ("pictures", {"A": 1}, "an object of text"),
        ("dataset", ["a"], "text"),
    ],
)
def test_a_fact_of_the_wrong_type_is_named(tmp_path, name, value, accepted):
    (tmp_path / "run.json").write_text(json.dumps({name: value}))
    with pytest.raises(UserError, match=rf"run\.json: {name} is .*{accepted}"):
        RunRecord.load(tmp_path)


@pytest.mark.parametrize("name", ["psnr", "base_psnr", "psnr_worst", "num_images", "steps", "psnr_gain_ci95"])
@pytest.mark.parametrize("value", ["20.0", [20.0], {"value": 20.0}, True, 10**400])
def test_a_metric_that_is_no_number_is_named(tmp_path, name, value):
    (tmp_path / "metrics.json").write_text(json.dumps({name: value}))
    with pytest.raises(UserError, match=rf"metrics\.json: {name} is .*it must be a number"):
        read_metrics(tmp_path)


def test_what_is_null_or_missing_is_unknown(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(dict.fromkeys(RECORD)))
    (tmp_path / "metrics.json").write_text('{"psnr": null}')
    assert RunRecord.load(tmp_path) == RunRecord()
    assert read_metrics(tmp_path) == {"psnr": None}


def test_what_is_saved_is_loaded(tmp_path):
    record = RunRecord(**RECORD)
    record.save(tmp_path)
    assert asdict(RunRecord.load(tmp_path)) == asdict(record)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_a_card_keeps_licence_tags_and_words_in_every_encoding_that_names_itself(folder, encoding, capsys):
    for name in ("run.json", "metrics.json"):
        (folder / name).write_bytes("{}".encode(encoding))
    old = "---\r\nlicense: cc0-1.0\r\ntags:\r\n- mine\r\n---\r\nMeine Wörter.\r\n"
    (folder / "README.md").write_bytes(old.encode(encoding))
    assert cli.main(["card", str(folder)]) == 0
    text = (folder / "README.md").read_bytes().decode()
    data = ModelCard(text).data
    assert data.license == "cc0-1.0"
    assert data.tags[0] == "mine"
    assert "\r\nMeine Wörter.\r\n" in text
    assert text.count("\n") == text.count("\r\n")


def test_a_card_in_an_encoding_that_could_only_be_guessed_is_left_alone(folder, capsys):
    old = "Meine Wörter.\n".encode("cp1252")
    (folder / "README.md").write_bytes(old)
    assert cli.main(["card", str(folder)]) == 2
    assert "README.md is not text in UTF-8" in capsys.readouterr().err
    assert (folder / "README.md").read_bytes() == old


def test_a_deleted_mark_loses_no_word_and_is_said(folder, capsys):
    (folder / "README.md").unlink(missing_ok=True)
    assert cli.main(["card", str(folder)]) == 0
    text = (folder / "README.md").read_text()
    (folder / "README.md").write_text(text.replace(END, "") + "My words.\n")
    for _ in range(3):
        capsys.readouterr()
        assert cli.main(["card", str(folder)]) == 0
        assert "My words." in (folder / "README.md").read_text()
    assert "mark" not in capsys.readouterr().err  # it is there again


@pytest.fixture(scope="module")
def model():
    return adapt(vqvae())


def carded(model, folder, run, metrics):
    """The card, or the sentence that refuses it."""
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    try:
        return str(model_card(model, read_metrics(folder), RunRecord.load(folder)))
    except UserError as refused:
        error = str(refused)
    assert "\n" not in error
    assert str(folder) in error
    return f"error: {error}"


@pytest.mark.parametrize("name", [field.name for field in fields(RunRecord)])
def test_any_value_in_run_json(model, name, tmp_path):
    answers = [carded(model, tmp_path, {**RECORD, name: value}, METRICS) for value in VALUES]
    refused = [value for value, answer in zip(VALUES, answers, strict=True) if answer.startswith("error:")]
    assert [1] in refused
    assert True in refused
    carded(model, tmp_path, {key: value for key, value in RECORD.items() if key != name}, METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_any_value_in_metrics_json(model, name, tmp_path):
    for value in VALUES:
        answer = carded(model, tmp_path, RECORD, {**METRICS, name: value})
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and value < 1e308
        if not (number or value is None):
            assert f"{name} is " in answer
    without = carded(model, tmp_path, RECORD, {key: value for key, value in METRICS.items() if key != name})
    assert not without.startswith("error:")


def test_the_command_says_it_in_one_line(model, tmp_path, capsys):
    model.save(tmp_path)
    (tmp_path / "metrics.json").write_text('{"psnr": "good"}')
    assert cli.main(["card", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "psnr is 'good'" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "README.md").exists()
    (tmp_path / "metrics.json").unlink()
    config = json.loads((tmp_path / "config.json").read_text())
    for auto_map in ("x", ["a"], {"AutoModel": [1]}, {"AutoModel": "../../x.y"}, {"AutoModel": "x" * 5000}):
        (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": auto_map, "_name_or_path": "x" * 5000}))
        assert cli.main(["card", str(tmp_path)]) == 0
