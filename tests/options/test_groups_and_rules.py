"""Options in groups, what was given of them, and the rules between them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import pytest
import yaml

from vae_plugin.options import (
    GIVEN,
    UNKNOWN,
    Except,
    OptionError,
    build,
    changed,
    declared,
    flat,
    given_in,
    group,
    judge,
    option,
    options_of,
    parse,
    save,
    to_dict,
)
from vae_plugin.options.rules import check_new_model


@dataclass
class Objective:
    """A plain dataclass, which knows nothing of options.

    Attributes:
        beta: weight of the KL; see
            `warmup_steps` too.
        warmup_steps: steps of warm-up.
    """

    beta: float = 1.0
    warmup_steps: int = 0

    def __post_init__(self):
        if self.warmup_steps > 10:
            raise ValueError(f"warmup_steps is {self.warmup_steps}: it must be at most 10, whatever beta is.")


@dataclass
class Data:
    data_dir: str | None = option(None, "Folder.", also=("train_data_dir",), common=True)
    streaming: bool = option(False, "Stream it.")
    buffer: int = option(8, "Images.", at_least=1, when={"streaming": GIVEN})
    flip: bool = option(False, "Mirror.", when={"circles": (False,)}, on_resume=True)
    sizes: tuple[int, ...] = option((4, 4), "Sizes.", at_least=1, below=100, of_new_model="widths")


@dataclass
class Run:
    model: str | None = option(None, "Model.", positional="model", required="give a model.", common=True)
    data: Data = group(Data, "data")
    objective: Objective = group(
        Objective,
        "objective",
        declared(
            Objective,
            {"on_resume": True, "when": {"kind": ("vae",)}},
            beta={"also": ("kl_weight",)},
            warmup_steps={"flag": "kl_warmup_steps", "when": {"beta": Except(0.0)}},
        ),
    )
    in_full: ClassVar = frozenset(
        {"model", "data_dir", "streaming", "buffer", "sizes", "beta", "kl_weight", "kl_warmup_steps"}
    )
    phrases: ClassVar = {"circles": "has no effect on circles", "kind": "needs a vae, not {value}"}

    def facts(self):
        return {"circles": self.data.data_dir is None, "kind": UNKNOWN}


def run(*argv: str) -> Run:
    return parse(Run, list(argv), prog="run")


def test_flags_are_flat_and_values_in_groups():
    options = run("out", "--beta", "2", "--data_dir", "photos", "--streaming", "--buffer", "3")
    assert options == Run("out", Data("photos", True, 3), Objective(2.0))
    assert flat(options)["kl_warmup_steps"] == 0
    assert build(Run, {"model": "out", "beta": 2, "data_dir": "photos"}, streaming=True, buffer=3) == options


def test_keys_of_a_file_are_flat_too(config):
    file = config("model: out\nkl_warmup_steps: 3\nbeta: 2\n")
    assert run("--config", file) == Run("out", objective=Objective(2.0, 3))
    with pytest.raises(OptionError, match="'objective'"):
        run("--config", config("model: out\nobjective: {beta: 2}\n"))


def test_a_positional_option_may_be_named_too():
    assert run("out").model == run("--model", "out").model == "out"
    with pytest.raises(OptionError, match="--model and MODEL are the same option: give one of them"):
        run("out", "--model", "out")
    with pytest.raises(OptionError, match=r"^give a model\.$"):
        run("--beta", "2")


@pytest.mark.parametrize("words", [["--beta", "1", "--kl_weight", "2"], ["--kl_weight", "1", "--beta", "1"]])
def test_an_option_is_given_by_one_of_its_names(words, config):
    assert run("out", "--kl_weight", "3").objective.beta == run("out", "--beta", "3").objective.beta == 3
    assert run("out", "--train_data_dir", "x").data.data_dir == "x"
    with pytest.raises(OptionError, match="--beta and --kl_weight are the same option: give one of them"):
        run("out", *words)
    with pytest.raises(OptionError, match="the same option"):
        build(Run, {"model": "out", "beta": 1.0, "kl_weight": 2.0})
    with pytest.raises(OptionError, match="--kl_weight is another name of --beta"):
        run("out", "--config", config("beta: 2\nkl_weight: 2\n"))
    assert run("out", "--config", config("beta: 2\n"), "--kl_weight", "3").objective.beta == 3


def test_what_was_given_is_recorded(config, tmp_path):
    assert given_in(run("out")) == {"model"}
    options = run(
        "out", "--no_streaming", "--beta", "1", "--data_dir", "none", "--config", config("kl_warmup_steps: 0")
    )
    assert given_in(options) == {"model", "streaming", "beta", "kl_warmup_steps"}  # null is as good as not given
    assert given_in(options.data) == given_in(options)
    save(options, tmp_path / "options.yaml")
    text = (tmp_path / "options.yaml").read_text()
    assert yaml.safe_load(text) == {"model": "out", "streaming": False, "beta": 1.0, "kl_warmup_steps": 0}
    assert given_in(run("--config", str(tmp_path / "options.yaml"))) == given_in(options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sizes", "4", "0"], "--sizes is 4 0: each number must be at least 1."),
        (["--sizes", "100"], "--sizes is 100: each number must be below 100."),
        (["--buffer", "0", "--streaming"], "--buffer is 0: it must be at least 1."),
        (["--buffer", "8"], "--buffer needs --streaming: give both, or leave --buffer out."),
        (["--buffer", "8", "--no_streaming"], "--buffer needs --streaming: give both, or leave --buffer out."),
        (["--no_flip"], "--flip has no effect on circles: leave it out."),
        (
            ["--beta", "0", "--kl_warmup_steps", "0"],
            "--kl_warmup_steps has no effect with --beta 0.0: leave one of them out.",
        ),
        (["--kl_warmup_steps", "11"], "--kl_warmup_steps is 11: it must be at most 10, whatever --beta is."),
    ],
)
def test_rules(words, message):
    with pytest.raises(OptionError) as raised:
        run("out", *words)
    assert str(raised.value) == message


def test_rules_hold_for_values_from_python():
    for values, words in (
        ({"buffer": 8}, "--buffer needs --streaming"),
        ({"sizes": [0]}, "at least 1"),
        ({"beta": "2"}, "option 'beta': expected a number, got '2'."),
        ({"beta": True}, "expected a number"),
        ({"sizes": 4}, "expected a list"),
        ({"bta": 2}, "did you mean 'beta'?"),
    ):
        with pytest.raises(OptionError, match=re.escape(words)):
            build(Run, {"model": "out", **values})
    assert build(Run, model="out", sizes=[2]).data.sizes == (2,)


def test_a_fact_may_be_known_later():
    options = run("out", "--beta", "1")
    judge(options, {"kind": "vae"})
    with pytest.raises(OptionError, match=r"^--beta needs a vae, not an AutoencoderKL: leave it out\.$"):
        judge(options, {"kind": "kl"}, {"kind=kl": "an AutoencoderKL"})
    judge(run("out"), {"kind": "kl"})


def test_a_flag_wins_over_what_it_makes_meaningless_in_the_file(config, tmp_path):
    file = config("model: out\nstreaming: true\nbuffer: 3\nkl_warmup_steps: 3\n")
    options = run("--config", file, "--no_streaming", "--beta", "0")
    assert given_in(options) == {"model", "streaming", "beta"}
    assert options.data.buffer == 8
    with pytest.raises(OptionError, match="--buffer needs --streaming"):
        run("--config", config("model: out\nbuffer: 3\n"))


def test_in_a_file_that_holds_every_option_a_default_is_not_given(config, tmp_path):
    """Such files wrote release 0.1, which passed over what had no effect."""
    everything = (
        "model: out\ndata_dir: null\nstreaming: false\nbuffer: 3\nflip: false\nsizes: [4, 4]\n"
        "beta: 2.0\nkl_weight: 2.0\nkl_warmup_steps: 0\n"
    )
    options = run("--config", config(everything))
    assert given_in(options) == {"model", "beta"}
    save(options, tmp_path / "options.yaml")
    assert given_in(run("--config", str(tmp_path / "options.yaml"))) == {"model", "beta"}
    unused = everything.replace("beta: 2.0\nkl_weight: 2.0", "beta: 0.5\nkl_weight: null").replace("model: out\n", "")
    assert given_in(run("out", "--config", config(unused))) == {"model", "beta"}  # a line less changes nothing


def test_a_resumed_run_keeps_what_it_must():
    then = to_dict(run("out", "--beta", "2", "--sizes", "3"))
    assert changed({**then, "gone": 1}, run("out", "--kl_warmup_steps", "3", "--sizes", "3")) == {
        "beta": 2.0,
        "kl_warmup_steps": 0,
    }
    with pytest.raises(OptionError, match=r"^--sizes was 3 and is now 5: a resumed run must keep it\.$"):
        changed(then, run("out", "--beta", "2", "--sizes", "5"))
    del then["sizes"]  # an option that the checkpoint is too old to know
    assert changed(then, run("out", "--beta", "2", "--sizes", "5")) == {}


@dataclass
class Paths:
    base: str | None = option(None, "A model.", path=True)


def test_a_path_that_was_moved_or_is_written_in_another_way_is_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("new/base", "other", "base", "new/name"):
        (tmp_path / folder).mkdir(parents=True)
    then = {"base": str(tmp_path / "old" / "base")}
    assert changed(then, build(Paths, base="new/base")) == then  # and it is said
    assert changed({"base": "base"}, build(Paths, base=str(tmp_path / "base"))) == {}
    assert changed({"base": "./base"}, build(Paths, base="base")) == {}
    for was, now in (
        (then["base"], "other"),  # another name
        (then["base"], "nowhere/base"),  # not there
        (str(tmp_path / "base"), "new/base"),  # the old one is still there
        ("user/name", "new/name"),  # an id of the Hub is never gone
        (None, "base"),
        (["base"], "base"),
    ):
        with pytest.raises(OptionError, match="a resumed run must keep it"):
            changed({"base": was}, build(Paths, base=now))


def test_an_option_of_a_new_model_agrees_with_an_existing_one():
    check_new_model(run("out"), {"widths": [5, 5]}, "S")
    check_new_model(run("out", "--sizes", "5", "5"), {"widths": [5, 5]}, "S")
    with pytest.raises(OptionError) as raised:
        check_new_model(run("out", "--sizes", "4", "4"), {"widths": [5, 5]}, "S")
    assert str(raised.value) == "--sizes 4 4 conflicts with S, which has 5 5. It applies only to new models."
    with pytest.raises(OptionError, match="which has no such setting"):
        check_new_model(run("out", "--sizes", "4"), {}, "S")


def help_of(capsys, *words):
    with pytest.raises(SystemExit):
        run(*words)
    return " ".join(capsys.readouterr().out.split())


def test_help_shows_the_common_options_and_help_all_every_one(capsys):
    short, full = help_of(capsys, "--help"), help_of(capsys, "--help-all")
    assert short.startswith("usage: run MODEL [--option VALUE ...]")
    assert "--data_dir STR Folder. Also --train_data_dir." in short
    assert "--help-all lists the others too." in short
    assert "--beta" not in short
    assert (
        "objective: --beta FLOAT Weight of the KL; see --kl_warmup_steps too. Also --kl_weight. (default: 1.0)" in full
    )
    assert all(f"--{name}" in full for name in options_of(Run))
    assert help_of(capsys, "--help_all") == full


def test_a_plain_dataclass_documents_its_options():
    @dataclass
    class Undocumented:
        """Nothing is said of the field."""

        value: int = 0

    with pytest.raises(TypeError, match=r"Undocumented\.value"):
        declared(Undocumented, {})


@dataclass
class Folders:
    places: tuple[str, ...] | None = option(None, "Folders.", alone=True, also=("folders",))
    sizes: tuple[int, ...] = option((), "Sizes.")


@dataclass
class FoldersOf:
    model: str = option("", "Model.", positional="model")
    places: tuple[str, ...] | None = option(None, "Folders.", alone=True)


def test_an_option_that_may_stand_alone_is_one_value_or_several(tmp_path):
    for words in (["--places", "a", "b"], ["--places", "a", "--places", "b"], ["--folders", "a", "b"]):
        assert parse(Folders, words).places == ("a", "b")
    assert parse(Folders, ["--places", "a"]).places == build(Folders, {"places": "a"}).places == ("a",)
    assert parse(Folders, ["--places", "null"]).places is build(Folders, {"places": None}).places is None
    for content, expected in (("places: a", ("a",)), ("places: [a, b]", ("a", "b")), ("places: null", None)):
        (tmp_path / "a.yaml").write_text(content)
        assert parse(Folders, ["--config", str(tmp_path / "a.yaml")]).places == expected
    assert to_dict(build(Folders, {"places": ["a"]})) == {"places": "a", "sizes": []}
    assert to_dict(build(Folders, {"places": ["a", "b"], "sizes": [1]})) == {"places": ["a", "b"], "sizes": [1]}
    # Beside arguments by position it takes one value each time, or it would take theirs too.
    for words in (["--places", "a", "m"], ["m", "--places", "a"]):
        assert parse(FoldersOf, words) == build(FoldersOf, {"model": "m", "places": "a"})
    assert parse(FoldersOf, ["--places", "a", "m", "--places", "b"]).places == ("a", "b")
    with pytest.raises(OptionError, match="a list"):
        build(Folders, {"sizes": 1})
