"""What people have written in a card stays, what follows from the run is new."""

import pytest
import yaml

from vae_plugin.errors import UserError
from vae_plugin.hub.merging import merged, split

GENERATED = """---
license: mit
library_name: vae-plugin
tags:
- vae
- f8
model-index:
- name: new
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
    assert data["model-index"] == [{"name": "new"}]
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
