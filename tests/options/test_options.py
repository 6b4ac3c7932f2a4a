from __future__ import annotations

import random
import re
import string
import tracemalloc
from dataclasses import dataclass, fields, make_dataclass, replace

import pytest
import yaml

from vae_plugin.errors import UserError
from vae_plugin.options import (
    OptionError,
    option,
    parse,
    plain_number,
    save,
    to_dict,
)


@dataclass
class Options:
    learning_rate: float = option(1e-3, "Step size; 100% of it at the start.", section="optimisation")
    max_train_steps: int = option(1000, "Steps.", section="optimisation")
    mixed_precision: str = option("no", "Precision.", choices=("no", "fp16", "bf16"), section="optimisation")
    output_dir: str = option("out", "Where the result goes (50%s).")
    subfolder: str | None = option(None, "Folder in the repository.")
    seed: int | None = option(None, "Seed.")
    capacity: float | None = option(2.5, "Nats.")
    use_ema: bool = option(False, "Average the weights.")
    flip: bool | None = option(None, "Mirror.")
    block_out_channels: tuple[int, ...] = option((32, 64), "Channels of each level.")
    levels: tuple[int, ...] | None = option(None, "Levels.", choices=(1, 2, 3))


def read(*argv: str) -> Options:
    return parse(Options, list(argv), prog="train", description="Trains 100%.")


def test_defaults():
    assert read() == Options()


def test_every_type_on_the_command_line():
    assert read(
        *("--learning_rate", "1e-4", "--max_train_steps=7", "--mixed_precision", "bf16", "--output_dir", "a=b c"),
        *("--subfolder", "vae", "--seed", "-3", "--capacity", "3", "--use_ema", "--no-flip"),
        *("--block_out_channels", "8", "16", "32", "--levels", "3"),
    ) == Options(1e-4, 7, "bf16", "a=b c", "vae", -3, 3.0, True, False, (8, 16, 32), (3,))


@pytest.mark.parametrize("flag", ["--no-use_ema", "--no_use_ema", "--no-use-ema"])
def test_spellings_of_a_negated_flag(flag):
    assert read("--use-ema").use_ema is True
    assert read("--use_ema", flag).use_ema is False


def test_dashes_change_the_name_but_not_the_value():
    assert read("--output-dir=my-out_dir").output_dir == "my-out_dir"
    assert read("--output-dir", "my-out_dir").output_dir == "my-out_dir"


@pytest.mark.parametrize("kind", [int, float])
def test_numbers_of_text_are_plain(kind):
    """What Python reads too, of ASCII and without underscores, whatever letters and digits stand beside each other."""
    rng = random.Random(0)
    words = ["1_0", "1_000.5", "\u0661", "１２", "010", "+5", ".5", "5.", "1e3", "1E-3", "0x10", "1,5", "1 0", "", "."]
    words += ["".join(rng.choices("0123456789.eE+-_ \u0663", k=rng.randint(1, 6))) for _ in range(3000)]
    kept = 0
    for word in words:
        try:
            expected = kind(word) if word.isascii() and "_" not in word else None
        except ValueError:
            expected = None
        if expected is None:
            with pytest.raises(ValueError, match="is no plain number"):
                plain_number(word, kind)
        else:
            kept += 1
            assert plain_number(word, kind) == expected
    assert kept > 300
    for word in ("1_0", "\u0661"):
        with pytest.raises(OptionError, match=r"expected (an integer|a number)"):
            read(f"--max_train_steps={word}" if kind is int else f"--learning_rate={word}")


@pytest.mark.parametrize("word", ["null", "none", "None"])
def test_null_on_the_command_line(word, config):
    file = config("seed: 3\nsubfolder: vae\nlevels: [1]\n")
    options = read("--config", file, "--seed", word, "--subfolder", word, "--levels", word, "--capacity", word)
    assert (options.seed, options.subfolder, options.levels, options.capacity) == (None, None, None, None)
    assert read("--output_dir", word).output_dir == word


def test_arguments_of_the_process_by_default(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train", "--seed", "5"])
    assert parse(Options, None, prog="train", description="").seed == 5


def test_flag_wins_over_file_wins_over_default(config):
    file = config("learning_rate: 0.5\nmax_train_steps: 5\nuse_ema: true\n")
    assert read("--max_train_steps", "9", "--config", file) == Options(0.5, 9, use_ema=True)
    assert read("--no-use_ema", "--config", file).use_ema is False
    # Given on the command line, even the default's own value wins over the file.
    assert read("--learning_rate", "0.001", "--config", file).learning_rate == 1e-3


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("learning_rate: 1e-4", 1e-4),  # a string to YAML 1.1
        ("learning_rate: 1.0e-04", 1e-4),
        ("learning_rate: 2", 2.0),
        ("max_train_steps: 010", 10),  # 8 to YAML 1.1
        ("max_train_steps: -4", -4),
        ("mixed_precision: no", "no"),  # False to YAML 1.1
        ("output_dir: off", "off"),
        ("output_dir: 2024-01-01", "2024-01-01"),
        ("output_dir: 'null'", "null"),
        ("subfolder: 'none'", "none"),
        ("subfolder: none", None),
        ("subfolder:", None),
        ("capacity: ~", None),
        ("capacity: null", None),
        ("use_ema: yes", True),
        ("use_ema: Off", False),
        ("flip: null", None),
        ("block_out_channels: [8, 16]", (8, 16)),
        ("block_out_channels:\n- 8\n- 16", (8, 16)),
        ("block_out_channels: []", ()),
        ("levels: null", None),
    ],
)
def test_values_in_a_file(config, line, expected):
    name = line.partition(":")[0]
    value = getattr(read("--config", config(line)), name)
    assert value == expected
    assert type(value) is type(expected)


def test_file_is_json_too(config):
    assert read("--config", config('{"learning_rate": 1e-4, "subfolder": null, "use_ema": true}')) == Options(
        1e-4, use_ema=True
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_empty_file_is_no_options(config, text):
    assert read("--config", config(text)) == Options()


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("learning_rate: fast", ["'learning_rate'", "'fast'", "a number"]),
        ("learning_rate: .nan", ["'learning_rate'", "a number"]),
        ("learning_rate: true", ["'learning_rate'", "'true'", "a number"]),
        ("learning_rate:", ["'learning_rate'", "null", "a number"]),
        ("max_train_steps: 1.5", ["'max_train_steps'", "'1.5'", "an integer"]),
        ("max_train_steps: true", ["'max_train_steps'", "'true'", "an integer"]),
        ("max_train_steps: '32'", ["'max_train_steps'", "quoted '32'", "an integer"]),
        ("max_train_steps: [1]", ["'max_train_steps'", "['1']", "an integer"]),
        ("seed: many", ["'seed'", "'many'", "an integer or null"]),
        ("use_ema: 1", ["'use_ema'", "'1'", "true or false"]),
        ("use_ema: 'yes'", ["'use_ema'", "quoted 'yes'", "true or false"]),
        ("use_ema: null", ["'use_ema'", "null", "true or false"]),
        ("output_dir: null", ["'output_dir'", "null", "a string"]),
        ("output_dir: [a]", ["'output_dir'", "['a']", "a string"]),
        ("block_out_channels: 8", ["'block_out_channels'", "'8'", "a list, an integer each"]),
        ("block_out_channels: [8, x]", ["'block_out_channels'", "'x'", "a list, an integer each"]),
        ("block_out_channels: [8, [1]]", ["'block_out_channels'", "a list, an integer each"]),
        ("block_out_channels: [8, {a: 1}]", ["'block_out_channels'", "a list, an integer each"]),
        ("mixed_precision: fp8", ["'mixed_precision'", "'fp8'", "'no', 'fp16', 'bf16'"]),
        ("levels: [1, 4]", ["'levels'", "4", "1, 2, 3"]),
        ("learning_rte: 1", ["unknown option 'learning_rte'", "did you mean 'learning_rate'?"]),
        ("zzz: 1", ["unknown option 'zzz'", "--help"]),
        ("config: other.yaml", ["unknown option 'config'"]),
        ("optimiser: {learning_rate: 1}", ["'optimiser'", "nested", "top level"]),
        ("seed: {a: 1}", ["'seed'", "nested", "top level"]),
        ("? [a, b]\n: 1", ["unknown option"]),
        ("seed: 1\nseed: 2", ["'seed'", "twice"]),
        ("learning_rate: .inf", ["--learning_rate is inf", "finite"]),
        ("learning_rate: 1e400", ["--learning_rate is inf", "finite"]),
        ("seed: 2147483648", ["--seed is 2147483648", "at most 2147483647"]),
        ("seed: -99999999999", ["--seed", "at least"]),
        ("seed: " + "9" * 5000, ["'seed'", "an integer"]),
        ('output_dir: "a\\0b"', ["--output_dir", "zero byte"]),
        ('subfolder: "\\uD800"', ["--subfolder", "UTF-8"]),
        ("block_out_channels: &a [*a]", ["'block_out_channels'", "a list, an integer each", "[...]"]),
        ("seed: &a [*a, *a]", ["'seed'", "an integer"]),
        ("seed: !custom 3", ["'seed'", "!custom", "leave it out"]),
        ("- seed", ["option: value"]),
        ("just words", ["option: value"]),
        ("seed: [1", ["cannot read"]),
        ("seed: 1\n--- \nseed: 2", ["cannot read"]),
        ("seed: !!python/object:os.system 1\n\t- x", ["cannot read"]),
    ],
)
def test_mistakes_in_a_file(config, line, parts):
    file = config(line)
    with pytest.raises(OptionError) as raised:
        read("--config", file)
    message = str(raised.value)
    for part in [*parts] if "--" in parts[0] else [*parts, file]:
        assert part in message
    assert "\n" not in message
    assert len(message) < 500
    assert message[-1] in ".?"


def test_unreadable_files(tmp_path):
    for path in (tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(OptionError, match=re.escape(str(path))):
            read("--config", str(path))
    (tmp_path / "binary.yaml").write_bytes(b"seed: \xff\xfe\x00")
    with pytest.raises(OptionError, match="cannot read"):
        read("--config", str(tmp_path / "binary.yaml"))


def test_an_alias_bomb_is_refused_at_once_and_takes_no_memory(config):
    """Written out, thirty lists of ten aliases each are 10^30 words."""
    nested = "&a0 [1]"
    for i in range(1, 30):
        nested = f"&a{i} [{nested}{f', *a{i - 1}' * 9}]"
    tracemalloc.start()
    for text in (nested, "&a [*a]", "&a [[*a], *a]"):
        with pytest.raises(OptionError, match="a list, an integer each"):
            read("--config", config(f"levels: {text}"))
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_a_number_may_be_an_alias(config):
    assert read("--config", config("seed: &n 3\nmax_train_steps: *n\nblock_out_channels: [*n, *n]")) == Options(
        seed=3, max_train_steps=3, block_out_channels=(3, 3)
    )


def test_a_file_with_a_byte_order_mark_is_read(config, tmp_path):
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        (tmp_path / "marked.yaml").write_text("seed: 3\noutput_dir: größe\n", encoding=encoding)
        assert read("--config", str(tmp_path / "marked.yaml")) == Options(seed=3, output_dir="größe")


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le"])
def test_a_file_in_an_encoding_that_it_does_not_name_is_refused(tmp_path, encoding):
    (tmp_path / "old.yaml").write_text("output_dir: größe\n", encoding=encoding)
    with pytest.raises(OptionError, match=r"cannot read the options in .*old\.yaml: it is not .*save it as UTF-8"):
        read("--config", str(tmp_path / "old.yaml"))


def test_a_file_without_end_is_refused():
    with pytest.raises(OptionError, match="larger than 256 KiB"):
        read("--config", "/dev/zero")


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--learning_rate", "fast"], ["'--learning_rate'", "'fast'", "a number"]),
        (["--learning_rate", "nan"], ["'--learning_rate'", "a number"]),
        (["--learning_rate", "null"], ["'--learning_rate'", "'null'", "a number"]),
        (["--max_train_steps", "1.5"], ["'--max_train_steps'", "'1.5'", "an integer"]),
        (["--seed", ""], ["'--seed'", "''", "an integer or null"]),
        (["--block_out_channels", "8", "x"], ["'--block_out_channels'", "got 8 x."]),
        (["--levels", "1", "4"], ["'--levels'", "'4'", "1, 2, 3"]),
        (["--mixed_precision", "fp8"], ["'--mixed_precision'", "'fp8'", "'no', 'fp16', 'bf16'"]),
        (["--learning_rte", "1"], ["'--learning_rte'", "did you mean '--learning_rate'?"]),
        (["--learning-rte=1"], ["'--learning_rte'", "did you mean '--learning_rate'?"]),
        (["--confg", "a.yaml"], ["'--confg'", "did you mean '--config'?"]),
        (["--learning", "1"], ["'--learning'", "did you mean '--learning_rate'?"]),  # an abbreviation
        (["--zzz"], ["'--zzz'", "--help"]),
        (["seed", "3"], ["'seed'", "did you mean '--seed'?"]),
        (["--seed"], ["--seed", "expected one argument"]),
        (["--use_ema=1"], ["--use_ema"]),
    ],
)
def test_mistakes_on_the_command_line(argv, parts):
    with pytest.raises(OptionError) as raised:
        read(*argv)
    for part in parts:
        assert part in str(raised.value)
    assert "\n" not in str(raised.value)


def test_mistakes_are_user_errors():
    assert issubclass(OptionError, UserError)
    assert issubclass(OptionError, ValueError)


def test_what_the_dataclass_refuses_is_an_option_error():
    @dataclass
    class Positive:
        seed: int = option(1, "Seed.")

        def __post_init__(self):
            if self.seed < 1:
                raise ValueError(f"--seed is {self.seed}: it must be positive.")

    with pytest.raises(OptionError, match="--seed is -2: it must be positive"):
        parse(Positive, ["--seed", "-2"], prog="p", description="")


@pytest.mark.parametrize("annotation", [dict, int | str | None, tuple[int, int], tuple[bool, ...], list[int]])
def test_types_that_options_cannot_have(annotation):
    cls = make_dataclass("Wrong", [("wrong", annotation, option(None, "Wrong."))])
    with pytest.raises(TypeError, match="'wrong'"):
        parse(cls, [], prog="p", description="")


def test_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        read("--help")
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "usage: train" in text
    assert "Trains 100%." in text
    assert "100% of it at the start. (default: 0.001)" in text
    assert "(50%s). (default: out)" in text
    assert "Channels of each level. (default: 32 64)" in text
    assert "--mixed_precision {no,fp16,bf16} Precision. (default: no)" in text
    assert "--use_ema, --no-use_ema Average the weights. (default: False)" in text
    assert text.index("--output_dir") < text.index("optimisation: --learning_rate")
    assert all(f"--{field.name}" in text for field in fields(Options))
    assert "--output-dir" not in text


def random_options(rng: random.Random) -> Options:
    alphabet = string.printable + "äß→\u2028\x85\ufeff😀"
    words = ["", " ", "null", "none", "~", "no", "1e-4", "1", "=", "<<", "- a", "a: b", "#", "'", '"', "[", "%", "\\"]

    def text() -> str:
        return rng.choice(words) if rng.random() < 0.5 else "".join(rng.choices(alphabet, k=rng.randrange(200)))

    def number() -> float:
        return rng.choice([0.0, -0.0, 1e-4, 1e22, 5e-324, rng.gauss(0, 1), 3.0])

    return Options(
        learning_rate=number(),
        max_train_steps=rng.randrange(-(2**31) + 1, 2**31),
        mixed_precision=rng.choice(["no", "fp16", "bf16"]),
        output_dir=text(),
        subfolder=rng.choice([None, text()]),
        seed=rng.choice([None, 0, 7]),
        capacity=rng.choice([None, number()]),
        use_ema=rng.random() < 0.5,
        flip=rng.choice([None, True, False]),
        block_out_channels=tuple(rng.randrange(99) for _ in range(rng.randrange(4))),
        levels=rng.choice([None, (), (1,), (3, 2)]),
    )


def test_saved_options_read_back_equal(tmp_path):
    rng = random.Random(0)
    for _ in range(200):
        options = random_options(rng)
        save(options, tmp_path / "options.yaml")
        assert read("--config", str(tmp_path / "options.yaml")) == options
    assert [path.name for path in tmp_path.iterdir()] == ["options.yaml"]


def test_saved_file_is_plain_yaml(tmp_path):
    options = replace(Options(), subfolder="none", learning_rate=1e-5)
    save(options, tmp_path / "options.yaml")
    assert yaml.safe_load((tmp_path / "options.yaml").read_text()) == to_dict(options)
    assert to_dict(options)["block_out_channels"] == [32, 64]
    assert list(to_dict(options)) == [field.name for field in fields(Options)]


def test_failed_save_leaves_the_old_file(tmp_path):
    save(Options(), tmp_path / "options.yaml")
    before = (tmp_path / "options.yaml").read_bytes()
    with pytest.raises(yaml.YAMLError):
        save(replace(Options(), output_dir=object()), tmp_path / "options.yaml")
    assert (tmp_path / "options.yaml").read_bytes() == before
