"""No path of a machine is published, whatever its shape and wherever it stands."""

import json
import random
import shlex

import pytest
import yaml

from support.pushed import REPO
from vae_plugin import hub as published
from vae_plugin.errors import UserError
from vae_plugin.hub.folder import snapshot
from vae_plugin.hub.paths import command_without_paths, is_local, public_name, without_paths, yaml_without_paths
from vae_plugin.options import parse, save
from vae_plugin.training import run_record
from vae_plugin.training.settings import FinetuneOptions

FOLDERS = [
    "private", "Jane Doe", "private data of mine", "müller", "写真", "o'brien", 'the "best"', "a,b; c", "100%",
    "x" * 300, "with\u00a0spaces\u3000of others", "(old) [1] {2}", "#1 & more", "key: value", "-v", "two  spaces",
]  # fmt: skip
SHAPES = [  # how a path begins, and its separator
    ("/", "/"), ("~/", "/"), ("~jane/", "/"), ("C:\\", "\\"), ("d:/", "/"), ("\\\\server\\", "\\"),
    ("\\\\?\\C:\\", "\\"), ("file:///", "/"), ("../", "/"), ("./", "/"),
]  # fmt: skip
LAST = "last-component"


def some_paths(seed, number=60):
    """Paths, each of whose folders has `secret` in its name."""
    choose = random.Random(seed)
    for _ in range(number):
        start, separator = choose.choice(SHAPES)
        folders = [f"secret{choose.randrange(100)} {name}" for name in choose.sample(FOLDERS, choose.randint(1, 5))]
        yield start + separator.join([*folders, LAST])


def leaks(text):
    return "secret" in text


@pytest.mark.parametrize("seed", range(5))
def test_a_value_that_is_a_path_becomes_its_last_component(seed):
    for path in some_paths(seed):
        assert is_local(path)
        assert public_name(path) == public_name([path])[0] == without_paths(path) == LAST, path
        assert without_paths({"a": [path, {"b": (path,)}]}) == {"a": [LAST, {"b": (LAST,)}]}


SENTENCES = [
    "cannot read '{}': no such file",
    'File "{}", line 3',
    "`{}` is damaged",
    "see {}",
    "{}: not found",
    "({})",
]


@pytest.mark.parametrize("seed", range(5))
def test_a_sentence_keeps_its_words_and_loses_the_folders(seed):
    """Not those of the quotation marks that a path itself has, nor a colon and a space, which end it in no sentence."""
    for path in some_paths(seed):
        if any(mark in path for mark in ("'", '"', "<", ": ", "; ")):
            continue
        for sentence in SENTENCES:
            text = without_paths(sentence.format(path))
            assert text == sentence.format(LAST), path


@pytest.mark.parametrize("seed", range(2))
def test_a_path_with_its_characters_escaped_is_reduced_too(seed):
    for path in some_paths(seed):
        if '"' in path:
            continue
        for text in (repr(path), json.dumps(path), f"OSError({path!r})", f"[Errno 2] No such file: {path!r}"):
            assert not leaks(without_paths(text)), text


@pytest.mark.parametrize(
    "text",
    [
        "user/name", "https://huggingface.co/user/name", "s3://bucket/key", "hf://datasets/user/name", "and/or", "1/8",
        "image/png", "24.5 +/- 3.7 dB", "a: b", "Only the decoder ~ 3 h", ".5", "1e-4", "", "...", "50 % of 3 / 4",
        "vae.AutoencoderVAE", "samples/prior.png", "module:function", "~ 3",
    ],
)  # fmt: skip
def test_what_is_no_path_stays(text):
    assert without_paths(text) == text


@pytest.mark.parametrize("path", ["/", "~", "~jane", "..", "C:\\", "/home/jane/..", "\\\\server"])
def test_a_path_without_a_name_of_its_own_is_local(path):
    assert without_paths(path) in ("local", "server")


def test_the_home_folder_is_the_name_of_a_person(monkeypatch):
    monkeypatch.setenv("HOME", "/home/jane")
    assert without_paths("/home/jane/") == "local"


@pytest.mark.parametrize("seed", range(3))
def test_options_are_published_without_paths_and_read_as_before(seed, tmp_path):
    for path in some_paths(seed, 20):
        if path.startswith("~jane"):  # who has no home here
            continue
        given = ["--train_data_dir", path, "--output_dir", path, "--image_column", "none", "--learning_rate", "1e-4"]
        options = parse(FinetuneOptions, [*given, "--block_out_channels", "8", "16"], prog="", description="")
        save(options, tmp_path / "options.yaml")
        text = yaml_without_paths((tmp_path / "options.yaml").read_text(), "options.yaml")
        assert not leaks(text)
        (tmp_path / "published.yaml").write_text(text)
        given[1] = given[3] = LAST
        expected = parse(FinetuneOptions, [*given, "--block_out_channels", "8", "16"], prog="", description="")
        again = parse(FinetuneOptions, ["--config", str(tmp_path / "published.yaml")], prog="", description="")
        assert again == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [("- /a/b\n", "does not hold options"), ("a: [\n", "cannot be read"), ("a: {b: /c/d}\n", "a map or list inside")],
)
def test_options_that_cannot_be_read_are_not_published(text, words):
    with pytest.raises(UserError, match=words):
        yaml_without_paths(text, "training_options.yaml")


def test_comments_and_folded_lines_hide_no_path():
    long = "/home/secret/" + "a very long name " * 20 + "/photos"
    text = yaml.safe_dump({"train_data_dir": long})
    assert len(text.splitlines()) > 3
    text = f"# made in /home/secret\n{text}list:\n- a\n# /secret/x\n- /secret/b\n"
    assert yaml.safe_load(yaml_without_paths(text, "")) == {"train_data_dir": "photos", "list": ["a", "b"]}
    assert not leaks(yaml_without_paths(text, ""))


@pytest.mark.parametrize("seed", range(3))
def test_the_words_of_a_command_lose_their_folders(seed):
    for path in some_paths(seed):
        command = run_record._command({"train_data_dir": path, "loss": f"{path}:f", "seed": 3}, 1)
        words = shlex.split(command_without_paths(command))
        assert words == shlex.split(
            command.replace(shlex.quote(path), LAST).replace(shlex.quote(f"{path}:f"), f"{LAST}:f")
        )
    assert not leaks(command_without_paths("vae-plugin 'without an end /secret/x"))


@pytest.mark.parametrize("seed", range(2))
def test_nothing_that_is_staged_or_pushed_has_a_path(connected, folder, tmp_path, seed):
    path = next(some_paths(seed))
    error = f"cannot read {path!r}"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_name_or_path": path}))
    (folder / "metrics.json").write_text(json.dumps({"psnr": 21.5, "num_images": 3, "note": error}))
    (folder / "training_options.yaml").write_text(yaml.safe_dump({"train_data_dir": path, "teacher": [path]}))
    published.RunRecord(
        dataset=error,
        base_model=path,
        teacher=path,
        command=run_record._command({"train_data_dir": path}, 1),
        options={"train_data_dir": path, "anything": error},
        license="other",
        license_name=error,
    ).save(folder)
    target = snapshot(folder, tmp_path / "staged")
    published.push(folder, REPO)
    staged = {file.name: file.read_bytes() for file in target.iterdir() if file.is_file()}
    sent = {name: file.content for name, file in connected.repositories[REPO].resolve().files.items()}
    for files in (staged, sent):
        assert {"run.json", "config.json", "metrics.json", "training_options.yaml"} <= files.keys()
        assert not [name for name, content in files.items() if b"secret" in content]
    assert LAST in sent["README.md"].decode()
    assert "secret" in (folder / "run.json").read_text()  # the folder itself is only read
