"""What people have written in a card stays, what follows from the run is new."""

import random
import re

import pytest
import yaml

from vae_plugin.errors import UserError
from vae_plugin.hub.front_matter import split
from vae_plugin.hub.merging import BEGIN, END, merged

GENERATED = """---
license: mit
library_name: vae-plugin
tags:
- vae
- f8
model-index:
- name: new
  metric: 1
---
<!-- generated:begin (x) -->
# New

Numbers.
<!-- generated:end -->
"""


def test_a_first_card_is_the_generated_one():
    assert merged(GENERATED, "") == GENERATED


def test_merging_again_changes_nothing():
    once = merged(GENERATED, "---\nlicense: apache-2.0\ntags: [mine]\n---\nMy words.\n")
    assert merged(GENERATED, once) == once


def test_words_around_the_marks_stay_where_they_were():
    old = GENERATED.replace("Numbers.", "Old numbers.").replace(
        "<!-- generated:begin", "Before.\n\n<!-- generated:begin"
    )
    text = merged(GENERATED, old + "\nAfter.\n")
    assert "Old numbers" not in text
    body = split(text)[1]
    assert body.index("Before.") < body.index("Numbers.") < body.index("After.")
    assert body.count("generated:begin") == 1


def test_a_card_without_marks_is_somebodys_own():
    text = merged(GENERATED, "# My model\n\nI wrote this.\n")
    assert text.index("I wrote this.") < text.index("# New")


def test_words_of_the_new_card_stay_where_the_old_one_has_none():
    assert "Mine." in merged(GENERATED + "\nMine.\n", "---\nlicense: mit\n---\n")


def test_the_metadata_of_people_win_but_for_what_follows_from_the_run():
    old = "license: cc-by-4.0\nlanguage: en\ntags: [mine, vae]\nmodel-index: [{name: old}]\nlibrary_name: diffusers\n"
    data, _ = split(merged(GENERATED, f"---\n{old}---\n"))
    assert data["license"] == "cc-by-4.0"
    assert data["language"] == "en"
    assert data["tags"] == ["mine", "vae", "f8"]
    assert data["model-index"] == [{"name": "new", "metric": 1}]
    assert data["library_name"] == "vae-plugin"


def test_a_licence_that_was_asked_for_replaces_that_of_the_card_with_its_name():
    old = "---\nlicense: other\nlicense_name: mine\nlicense_link: LICENSE\n---\n"
    assert split(merged(GENERATED, old, license_given=True))[0]["license"] == "mit"
    assert "license_name" not in split(merged(GENERATED, old, license_given=True))[0]
    assert split(merged(GENERATED, old))[0]["license_name"] == "mine"


def test_metadata_that_cannot_be_read_are_not_thrown_away():
    with pytest.raises(UserError, match="overwrite_card"):
        merged(GENERATED, "---\n{: broken\n---\nText\n")


def test_hostile_values_are_written_by_yaml_itself():
    old = yaml.safe_dump({"language": "a: b\n---\nlicense: evil"})
    data, _ = split(merged(GENERATED, f"---\n{old}---\n"))
    assert data["language"] == "a: b\n---\nlicense: evil"
    assert data["license"] == "mit"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_metadata_are_found_whatever_the_line_ends_and_the_byte_order_mark(line_end, mark):
    old = mark + line_end.join(["---", "license: cc0-1.0", "tags:", "- mine", "---", "My words.", "And more.", ""])
    text = merged(GENERATED, old)
    data, body = split(text)
    assert data["license"] == "cc0-1.0"
    assert data["tags"] == ["mine", "vae", "f8"]
    assert body.startswith(f"My words.{line_end}And more.{line_end}")
    assert set(re.findall("\r\n|\n|\r", text)) == {line_end}
    assert merged(GENERATED, text) == text


def test_lines_of_metadata_stay_as_they_were_written():
    """YAML would read `no` as false and 1.10 as 1.1."""
    old = "# mine\nlanguage: no\nversion: 1.10 # the tenth\nlicense:   mit\nmodel-index: [{name: old}]\n# the end\n"
    text = merged(GENERATED, f"---\n{old}---\n")
    for line in old.splitlines():
        assert (line in text) == ("model-index" not in line)
    assert split(text)[0]["model-index"] == [{"name": "new", "metric": 1}]
    assert merged(GENERATED, text) == text


@pytest.mark.parametrize(
    "old",
    [
        "tags: {a: b}",
        "tags: [[a]]",
        "license: mit\nlicense: apache-2.0",
        "date: 2024-13-45",
        "a: " + "[" * 5000,
        "license: mit\nNo closing line",
    ],
)
def test_metadata_that_make_no_sense_are_one_sentence(old):
    with pytest.raises(UserError, match="overwrite_card") as raised:
        merged(GENERATED, f"---\n{old}\n" + ("---\n" if "closing" not in old else ""))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("old", ["tags: one", "a: &a [*a]", "1: x\ntrue: y", "{a: 1, b: 2}", "a: &x 1\nbase_model: *x"])
def test_metadata_of_every_shape_stay(old):
    data = yaml.safe_load(old)
    result = split(merged(GENERATED, f"---\n{old}\n---\n"))[0]
    for name in data.keys() - {"tags", "base_model"}:
        assert repr(result[name]) == repr(data[name])
    assert set(result["tags"]) == {"vae", "f8", *([data["tags"]] if "tags" in data else [])}


@pytest.mark.parametrize("text", ["---\nWords between two rules\n---\n", "---\n- a\n- b\n---\n"])
def test_what_only_looks_like_metadata_is_text(text):
    body = split(merged(GENERATED, text))[1]
    assert body.startswith(text)


def test_no_word_is_ever_lost():
    """Whatever happens to the marks, lines that are not the program's own are there after every later card."""
    draw = random.Random(0)
    for _ in range(60):
        text, written = merged(GENERATED, ""), set()
        for turn in range(6):
            lines = text.split("\n")
            front, words = lines[: lines.index("---", 1) + 1], [f"Word {turn} {i}" for i in range(draw.randint(0, 3))]
            body = lines[len(front) :]
            whole = sum(line.startswith((BEGIN, END)) for line in body) == 2
            for word in words:  # between the marks, words are the program's
                body.insert(draw.choice([0, len(body)]) if whole else draw.randint(0, len(body)), word)
            written |= set(words)
            for mark in draw.sample([BEGIN, END], draw.choice([0, 0, 1, 2])):
                body = [line for line in body if not line.startswith(mark)]
            text = merged(GENERATED.replace("Numbers", f"Numbers of {turn}"), "\n".join([*front, *body]))
            assert written <= set(text.split("\n"))
            assert f"Numbers of {turn}." in text


LINES = [
    "license: mit", "tags: [a, b]", "tags: one", "language: no", "version: 1.10", "# mine", "  # mine too",
    "a: |", "  text",
    'c: "x', '  y"', "? k", ": v", "1: 2", "~: 3", "true: 1", "<<: {z: 1}", "{a: 1}", "e: &x 1", "f: *x", "g: &y [*y]",
    "!!set {a}", "h: 2001-01-01", "i: 12:30:45", "license:", "thumbnail: mine.png", "n: [1,", "2]",
]  # fmt: skip


def test_metadata_of_any_lines_stay_or_are_named():
    """A second card changes nothing: neither on the disk nor, as a commit, on the Hub."""
    draw, new = random.Random(0), GENERATED.replace("(x)", "(x; metadata: library_name, model-index)")
    outcomes = set()
    for _ in range(300):
        front = "".join(f"{draw.choice(LINES)}\n" for _ in range(draw.randint(1, 6)))
        old = f"---\n{front}---\nWords.\n"
        try:
            text = merged(new, old)
        except UserError:
            outcomes.add("refused")
            continue
        outcomes.add("merged")
        assert "Words.\n" in text
        assert merged(new, text) == text
        before, after = split(old)[0], split(text)[0]
        for name in before.keys() - {"tags", "license"}:
            assert repr(after[name]) == repr(before[name])
        assert not before or "# mine" not in front.split("\n") or "# mine" in text.split("\n")
    assert outcomes == {"merged", "refused"}
