"""Every option of every command, with values that nobody should give: accepted within its bounds, or one sentence."""

import math
import os
import random

import pytest
import yaml

from vae_plugin.commands.card import CardOptions
from vae_plugin.commands.demo import DemoOptions
from vae_plugin.commands.encode import EncodeOptions
from vae_plugin.commands.evaluate import EvaluateOptions
from vae_plugin.commands.export import ExportOptions
from vae_plugin.commands.push import PushOptions
from vae_plugin.commands.reconstruct import ReconstructOptions
from vae_plugin.errors import UserError
from vae_plugin.options import build, flat, options_of, parse
from vae_plugin.training.settings import FinetuneOptions

NEEDED = {  # of each command
    FinetuneOptions: {},
    DemoOptions: {},
    EvaluateOptions: {"pretrained_model_name_or_path": ("m",)},
    EncodeOptions: {"pretrained_model_name_or_path": "m", "output": "o", "train_data_dir": ("d",)},
    ReconstructOptions: {"pretrained_model_name_or_path": "m", "images": ("a.png",)},
    ExportOptions: {"pretrained_model_name_or_path": "m", "output": "o"},
    PushOptions: {"folder": "m", "repo_id": "someone/something"},
    CardOptions: {"folder": "m"},
}
EVERY = [(cls, name) for cls in NEEDED for name in options_of(cls)]
NO_PATHS = {  # what is text, and names nothing on a disk
    "variant", "output_variant", "dataset_config_name", "dataset_split",
    "subfolder", "revision", "teacher_subfolder", "sigma", "perceptual_loss", "image_column", "split", "hub_model_id",
    "best_metric", "optimizer", "optimizer_args", "validation_split", "hub_revision", "label_column", "license",
    "repo_id", "push_to_space", "tag", "commit_message", "perceptual", "fid", "tracker_project_name",
    "factor_columns", "factor_periods",
}  # fmt: skip
WORDS = [
    "", " ", "-1", "0", "1e400", "-inf", "nan", ".nan", ".inf", "4294967296", "-4294967297", "1e39", "1e-320",
    "9" * 400, "9" * 5000, "0x10", "1_0", "１２", "true", "null", "none", "~", "~nobody-has-this-name/x", "a\0b",
    "\udcff", "x" * 5000, "../../etc", "{x}", "%s", "{", "[", "*a", "&a", "!!int 3", "a\nb", "\u2028", "😀", "--seed",
    "=", "latest", "-",
]  # fmt: skip
VALUES = [
    *WORDS, None, True, -1, 0, 10**10, -(10**10), 10**400, -(10**400), 10**5000, 1e300, -1e300, math.inf, -math.inf,
    math.nan, 5e-324, b"x", [], [[]], [None], [math.nan, 1], [10**5000], {}, object(), ("a\0b", "b"), [1] * 1000,
]  # fmt: skip


def refusal(make):
    """The options, or the sentence that refuses them. Any other exception is a traceback for the user."""
    try:
        return make(), None
    except UserError as error:
        return None, str(error)


def check(cls, name, outcome):
    made, message = outcome
    if message is not None:
        assert "\n" not in message
        assert len(message) < 1000
        return
    value = flat(made)[name]
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, (int, float)):
            assert math.isfinite(number)
            assert abs(number) <= 3.4e38


@pytest.mark.parametrize("cls", NEEDED)
def test_hostile_values_from_python(cls):
    for name in options_of(cls):
        for value in VALUES:
            check(cls, name, refusal(lambda: build(cls, {**NEEDED[cls], name: value})))  # noqa: B023


@pytest.mark.parametrize("cls", NEEDED)
def test_hostile_words_on_the_command_line(cls):
    rng = random.Random(0)
    needed = [
        word
        for name, value in NEEDED[cls].items()
        for word in (f"--{name}={value if isinstance(value, str) else value[0]}",)
    ]
    for name in options_of(cls):
        words = [word for word in needed if not word.startswith(f"--{name}=")]
        for value in rng.sample(WORDS, 6):
            try:
                check(cls, name, refusal(lambda: parse(cls, [*words, f"--{name}={value}"], prog="p")))  # noqa: B023
            except SystemExit:
                raise AssertionError(f"--{name}={value!r} ends the process") from None


@pytest.mark.slow
def test_hostile_words_in_a_file(tmp_path):
    rng = random.Random(0)
    file = tmp_path / "options.yaml"
    for name in options_of(FinetuneOptions):
        for value in rng.sample(VALUES, 6):
            try:
                text = yaml.safe_dump({name: value})
            except (yaml.YAMLError, ValueError):
                continue
            file.write_bytes(text.encode(rng.choice(("utf-8", "utf-16", "utf-8-sig"))))
            check(FinetuneOptions, name, refusal(lambda: parse(FinetuneOptions, ["--config", str(file)], prog="p")))


def test_every_number_has_bounds_and_no_seed_is_beyond_what_generators_take():
    for cls, name in EVERY:
        option = options_of(cls)[name]
        if option.scalar not in (int, float) or option.declaration.choices:
            continue
        beyond = max(2**32, 2 * (option.declaration.at_most or 0))
        for value in (beyond, -(2**33)) if option.scalar is int else (4e38, -4e38, math.inf, math.nan):
            _, message = refusal(lambda: build(cls, {**NEEDED[cls], name: [value] if option.many else value}))  # noqa: B023
            assert message is not None, f"{cls.__name__} takes --{name} {value}"
            assert name in message


def test_the_home_folder_is_meant_wherever_a_path_is_an_option(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    text = {
        (cls, n) for cls, n in EVERY if options_of(cls)[n].scalar is str and not options_of(cls)[n].declaration.choices
    }
    assert {n for _, n in text if n in NO_PATHS} <= NO_PATHS
    for cls, name in text:
        option = options_of(cls)[name]
        assert option.declaration.path != (name in NO_PATHS), f"is --{name} a path?"
        if option.declaration.path:
            accepted = option.accept(["~/x"] if option.many else "~/x")
            assert (accepted[0] if option.many else accepted) == f"{tmp_path}/x"
            for wrong, reason in (
                ("~nobody-has-this-name/x", "no home folder"),
                ("", "give a path"),
                (" ", "give a path"),
            ):
                with pytest.raises(UserError, match=reason):
                    option.accept([wrong] if option.many else wrong)


def test_options_are_read_from_the_home_folder_too(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run.yaml").write_text("output_dir: ~/out\nseed: 3\n")
    options = parse(FinetuneOptions, ["--config=~/run.yaml"], prog="p")
    assert options.output.output_dir == os.path.join(tmp_path, "out")
    assert options.optimization.seed == 3
